package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestZLostNode comes last: it takes a node away, and brings it back.
func TestZLostNode(t *testing.T) {
	builtInOnly(t)
	ns := namespace(t)
	nodes := strings.Fields(kubectl(t, "get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"))
	lost := nodes[len(nodes)-1]
	// Tolerations of their own, so that nobody waits the usual five minutes.
	apply(t, ns, `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 4
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 2}
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 2}
      containers: [{name: c, image: "clipper.dev/demo:v1"}]
`)
	kubectl(t, "-n", ns, "rollout", "status", "deployment", "web", "--timeout=60s")
	if kubectl(t, "-n", ns, "get", "pods", "--field-selector=spec.nodeName="+lost, "-o", "name") == "" {
		t.Fatalf("no pod runs on %s", lost)
	}
	killDaemon(t, "/run/clipper-"+clusterName+"/node2/clipper.pid")
	eventually(t, 90*time.Second, func() error {
		out, err := tryKubectl(t, "get", "node", lost, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		if err == nil && out != "Unknown" {
			err = fmt.Errorf("Ready is %s", out)
		}
		return err
	})
	eventually(t, 60*time.Second, func() error {
		out, err := tryKubectl(t, "-n", ns, "get", "pods", "--field-selector=status.phase=Running,spec.nodeName="+nodes[0], "-o", "name")
		if n := len(strings.Fields(out)); err == nil && n < 4 {
			err = fmt.Errorf("%d pods run on %s", n, nodes[0])
		}
		return err
	})
	if out, err := program("up"); err != nil {
		t.Fatalf("clipper up: %v\n%s", err, out)
	}
	eventually(t, 60*time.Second, func() error {
		out, err := tryKubectl(t, "get", "nodes", "-o", `jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}`)
		if err == nil && out != "True True" {
			err = fmt.Errorf("Ready is %s", out)
		}
		return err
	})
}
