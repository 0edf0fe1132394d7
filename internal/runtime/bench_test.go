package runtime

import (
	"context"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// BenchmarkPod measures a pod's way from nothing to its program's first instruction, step by step.
func BenchmarkPod(b *testing.B) {
	n := newNode(b)
	ctx := context.Background()
	var sandbox, create, start, first time.Duration
	for b.Loop() {
		began := time.Now()
		p := n.runPod()
		made := time.Now()
		id := p.create(p.containerConfig("say", "x"))
		created := time.Now()
		if _, err := n.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: id}); err != nil {
			b.Fatal(err)
		}
		started := time.Now()
		b.StopTimer()
		status := n.waitExit(id)
		sandbox += made.Sub(began)
		create += created.Sub(made)
		start += started.Sub(created)
		first += time.Unix(0, status.StartedAt).Sub(created)
		if _, err := n.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: p.id}); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	for name, total := range map[string]time.Duration{"sandbox": sandbox, "create": create, "start": start, "first": first} {
		b.ReportMetric(float64(total.Microseconds())/1000/float64(b.N), name+"-ms")
	}
}

// BenchmarkExecSync measures a short command in a running container.
func BenchmarkExecSync(b *testing.B) {
	n := newNode(b)
	id := n.runPod().run("pause")
	for b.Loop() {
		n.exec(id, "/probe", "exit", "0")
	}
}
