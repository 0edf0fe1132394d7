package e2e

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCheckpoint asks the kubelet for a checkpoint of a container. CRIU doesn't work on every kernel; where it does not, the answer says why.
func TestCheckpoint(t *testing.T) {
	builtInOnly(t)
	ns := namespace(t)
	apply(t, ns, `
apiVersion: v1
kind: Pod
metadata: {name: worker}
spec:
  containers: [{name: c, image: "clipper.dev/demo:v1", args: [sleep, 1h]}] # CRIU does not know the kind of socket (MPTCP) that Go's servers listen on
`)
	kubectl(t, "-n", ns, "wait", "--for=condition=Ready", "pod/worker", "--timeout="+patience(60*time.Second).String())
	node := kubectl(t, "-n", ns, "get", "pod", "worker", "-o", "jsonpath={.spec.nodeName}")
	checkpoint := func(target string) (string, error) {
		return kubectlWith(t, "", "create", "--raw", "/api/v1/nodes/"+node+"/proxy/checkpoint/"+ns+"/"+target, "-f", "-")
	}
	for _, target := range []string{"none/c", "worker/none", "worker/c?timeout=x"} {
		if _, err := checkpoint(target); err == nil || !strings.Contains(err.Error(), "NotFound") {
			t.Errorf("%s: the answer is %v", target, err)
		}
	}
	out, err := checkpoint("worker/c")
	if exec.Command("criu", "check").Run() != nil {
		if err == nil || !strings.Contains(err.Error(), "checkpointing of "+ns+"/worker/c failed (") {
			t.Errorf("without CRIU the answer is %q, %v", out, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ Items []string }
	if err := json.Unmarshal([]byte(out), &made); err != nil || len(made.Items) != 1 {
		t.Fatalf("the answer is %q, %v", out, err)
	}
	if name := filepath.Base(made.Items[0]); !strings.HasPrefix(name, "checkpoint-worker_"+ns+"-c-") || !strings.HasSuffix(name, ".tar") {
		t.Errorf("the archive is called %s", name)
	}
	names := namesIn(t, made.Items[0])
	for _, want := range []string{"config.dump", "spec.dump", "status.dump", "rootfs-diff.tar", "checkpoint/inventory.img"} {
		if !names[want] {
			t.Errorf("%s is missing in the archive: %v", want, names)
		}
	}
	if out := kubectl(t, "-n", ns, "get", "pod", "worker", "-o", "jsonpath={.status.containerStatuses[0].restartCount} {.status.phase}"); out != "0 Running" {
		t.Errorf("after the checkpoint: %s", out)
	}
}

func namesIn(t *testing.T, path string) map[string]bool {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	names := map[string]bool{}
	for archive := tar.NewReader(file); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names[header.Name] = true
	}
}
