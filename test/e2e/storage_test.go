package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestAClaimBindsOnAFreshCluster follows a volume of the default class on a node that is not the server's, if there is one: it is there for the pod, outlives pod and
// server, grows, and is removed from its node with its claim.
func TestAClaimBindsOnAFreshCluster(t *testing.T) {
	ns := namespace(t)
	nodes := strings.Fields(kubectl(t, "get", "nodes", "-o", `jsonpath={.items[*].metadata.name}`))
	node := nodes[len(nodes)-1]
	apply(t, ns, `{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}`)
	pod := func(name string) string {
		return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  nodeSelector: {kubernetes.io/hostname: %s}
  terminationGracePeriodSeconds: 1
  securityContext: {fsGroup: 1234}
  containers: [{name: c, image: "clipper.dev/demo:v1", volumeMounts: [{name: data, mountPath: /files}]}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
`, name, node)
	}
	apply(t, ns, pod("first"))
	expect(t, 20*time.Second, ns, "pod/first", "{.status.phase}", "Running")
	expect(t, time.Second, ns, "pvc/data", "{.status.phase}", "Bound")
	volume := kubectl(t, "-n", ns, "get", "pvc", "data", "-o", "jsonpath={.spec.volumeName}")
	dir := kubectl(t, "get", "pv", volume, "-o", "jsonpath={.spec.local.path}")
	if err := os.WriteFile(filepath.Join(dir, "kept"), []byte("kept data"), 0o644); err != nil {
		t.Fatal(err)
	}
	kubectl(t, "-n", ns, "delete", "pod", "first")

	killDaemon(t, "/run/clipper-"+clusterName+"/clipper.pid")
	if out, err := program("up"); err != nil {
		t.Fatalf("clipper up: %v\n%s", err, out)
	}
	apply(t, ns, pod("second"))
	expect(t, 20*time.Second, ns, "pod/second", "{.status.phase}", "Running")
	if out := kubectl(t, "-n", ns, "exec", "second", "--", "/demo", "get", "http://localhost:8080/"); !strings.Contains(out, "/files/kept (9 bytes)") {
		t.Errorf("the second pod doesn't see what was left for it:\n%s", out)
	}
	kubectl(t, "-n", ns, "patch", "pvc", "data", "-p", `{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}`)
	expect(t, 10*time.Second, ns, "pvc/data", "{.status.capacity.storage}", "2Gi")

	kubectl(t, "-n", ns, "delete", "pod/second", "pvc/data")
	eventually(t, 20*time.Second, func() error {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is still there: %v", dir, err)
		}
		if _, err := tryKubectl(t, "get", "pv", volume); err == nil {
			return fmt.Errorf("volume %s is still there", volume)
		}
		return nil
	})
}
