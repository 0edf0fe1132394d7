package runtime

import (
	"context"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestContainerRunsAndItsOutputIsLogged(t *testing.T) {
	n := newNode(t)
	p := n.runPod()
	id := p.run("say", "one", "two")
	status := n.waitExit(id)
	if status.ExitCode != 0 || status.Reason != "Completed" {
		t.Errorf("ended with code %d, reason %q", status.ExitCode, status.Reason)
	}
	if got := n.log(id); got != "one two\n" {
		t.Errorf("log is %q", got)
	}
	if status.StartedAt == 0 || status.FinishedAt < status.StartedAt {
		t.Errorf("started %d, finished %d", status.StartedAt, status.FinishedAt)
	}
}

func TestExecSync(t *testing.T) {
	n := newNode(t)
	p := n.runPod()
	id := p.ready(p.containerConfig("pause"))
	if got := n.exec(id, "/probe", "say", "hi"); string(got.Stdout) != "hi\n" || got.ExitCode != 0 {
		t.Errorf("got %v", got)
	}
	if got := n.exec(id, "/probe", "complain", "oh"); string(got.Stderr) != "oh\n" {
		t.Errorf("got %v", got)
	}
	if got := n.exec(id, "/probe", "exit", "3"); got.ExitCode != 3 {
		t.Errorf("got %v", got)
	}
	if got := n.exec(id, "/probe", "status"); !strings.Contains(string(got.Stdout), "Seccomp:\t2") {
		t.Errorf("exec is not confined: %s", got.Stdout)
	}
	_, err := n.StopContainer(context.Background(), &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: 10})
	if err != nil {
		t.Fatal(err)
	}
	if got := n.log(id); got != "ready\ngot terminated\n" {
		t.Errorf("log is %q", got)
	}
}
