package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// deployWeb starts the demonstration behind a Service of both protocols.
func deployWeb(t *testing.T, ns string, replicas int) {
	t.Helper()
	apply(t, ns, fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: %d
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: demo
        image: clipper.dev/demo:v1
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports:
  - {name: tcp, port: 80, targetPort: 8080, protocol: TCP}
  - {name: udp, port: 80, targetPort: 8080, protocol: UDP}
`, replicas))
	kubectl(t, "-n", ns, "rollout", "status", "deployment", "web", "--timeout=60s")
}

func get(url string) (string, error) {
	client := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return strings.TrimSpace(string(body)), err
}

func askUDP(address string) (string, error) {
	conn, err := net.Dial("udp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := io.WriteString(conn, "hello"); err != nil {
		return "", err
	}
	buf := make([]byte, 1024)
	n, err := conn.Read(buf)
	return string(buf[:n]), err
}

// runToEnd runs the demonstration's program in a pod of its own and returns what it printed.
func runToEnd(t *testing.T, ns, name string, args ...string) string {
	t.Helper()
	kubectl(t, append([]string{"-n", ns, "run", name, "--restart=Never", "--image=clipper.dev/demo:v1", "--"}, args...)...)
	expect(t, 30*time.Second, ns, "pod/"+name, "{.status.phase}", "Succeeded")
	return kubectl(t, "-n", ns, "logs", name)
}

func TestServiceAnswers(t *testing.T) {
	ns := namespace(t)
	deployWeb(t, ns, 3)
	ip := kubectl(t, "-n", ns, "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
	ports := strings.Fields(kubectl(t, "-n", ns, "get", "service", "web", "-o", "jsonpath={.spec.ports[*].nodePort}"))

	t.Run("by_its_name_from_another_pod", func(t *testing.T) {
		out := runToEnd(t, ns, "tcp", "get", "http://web/version")
		if !strings.HasPrefix(out, "v1") {
			t.Errorf("the answer was %q", out)
		}
		out = runToEnd(t, ns, "udp", "udp", "web."+ns+".svc.cluster.local:80", "hi")
		if !strings.Contains(out, "hi") {
			t.Errorf("the answer was %q", out)
		}
	})
	t.Run("at_its_cluster_address_from_the_node", func(t *testing.T) {
		eventually(t, 10*time.Second, func() error { _, err := get("http://" + ip + "/version"); return err })
		eventually(t, 10*time.Second, func() error { _, err := askUDP(ip + ":80"); return err })
	})
	t.Run("at_its_node_port_on_every_node", func(t *testing.T) {
		addresses := nodeAddresses(t)
		if len(addresses) != *nodes {
			t.Fatalf("there are %d nodes", len(addresses))
		}
		for _, node := range addresses {
			eventually(t, 10*time.Second, func() error { _, err := get("http://" + net.JoinHostPort(node, ports[0]) + "/version"); return err })
			eventually(t, 10*time.Second, func() error { _, err := askUDP(net.JoinHostPort(node, ports[1])); return err })
		}
	})
	t.Run("with_every_one_of_its_pods", func(t *testing.T) {
		seen := map[string]bool{}
		eventually(t, 20*time.Second, func() error {
			name, err := get("http://" + ip + "/hostname")
			if err != nil {
				return err
			}
			if seen[name] = true; len(seen) < 3 {
				return fmt.Errorf("only %d of 3 have answered", len(seen))
			}
			return nil
		})
	})
}

func TestRollingUpdate(t *testing.T) {
	ns := namespace(t)
	deployWeb(t, ns, 3)
	web, err := clientset(t).CoreV1().Services(ns).Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	byAddress := "http://" + web.Spec.ClusterIP + "/version"
	addresses := nodeAddresses(t)
	byPort := "http://" + net.JoinHostPort(addresses[len(addresses)-1], strconv.Itoa(int(web.Spec.Ports[0].NodePort))) + "/version"
	for _, url := range []string{byAddress, byPort} {
		eventually(t, 10*time.Second, func() error { _, err := get(url); return err })
	}

	t.Run("loses_no_request", func(t *testing.T) {
		// One more asks from a pod, by name; it fails at the first request that is lost.
		kubectl(t, "-n", ns, "run", "asks", "--restart=Never", "--image=clipper.dev/demo:v1", "--", "get", "http://web/version", "100000000")
		kubectl(t, "-n", ns, "wait", "--for=condition=Ready", "pod/asks", "--timeout=30s")
		load(t, []string{byAddress, byPort}, func() {
			kubectl(t, "-n", ns, "set", "image", "deployment/web", "demo=clipper.dev/demo:v2")
			kubectl(t, "-n", ns, "rollout", "status", "deployment", "web", "--timeout=90s")
			awaitPods(t, ns, "app=web", time.Minute, func(pods map[string]corev1.Pod) error {
				for _, p := range pods {
					if p.Spec.Containers[0].Image != "clipper.dev/demo:v2" {
						return fmt.Errorf("%s is still there", p.Name)
					}
				}
				return nil
			})
		})
		if phase := kubectl(t, "-n", ns, "get", "pod", "asks", "-o", "jsonpath={.status.phase}"); phase != "Running" {
			t.Errorf("the pod that asks by name is %s: %s", phase, kubectl(t, "-n", ns, "logs", "asks", "--tail=2"))
		}
		if version, err := get(byAddress); err != nil || version != "v2" {
			t.Errorf("the answer is %q, %v", version, err)
		}
		kubectl(t, "-n", ns, "delete", "pod", "asks", "--grace-period=0", "--force")
	})
	t.Run("that_never_becomes_ready_leaves_the_old_version_serving", func(t *testing.T) {
		kubectl(t, "-n", ns, "patch", "deployment", "web", "--type=json", `-p=[{"op": "replace", "path": "/spec/template/spec/containers/0/readinessProbe/httpGet/port", "value": 9}]`)
		if _, err := tryKubectl(t, "-n", ns, "rollout", "status", "deployment", "web", "--timeout=3s"); err == nil {
			t.Error("the rollout succeeded")
		}
		load(t, []string{byAddress, byPort}, func() {
			out := kubectl(t, "-n", ns, "get", "deployment", "web", "-o", "jsonpath={.status.availableReplicas} {.status.updatedReplicas}")
			if out != "3 1" {
				t.Errorf("available and updated replicas are %s, not 3 and 1", out)
			}
		})
		if version, err := get(byAddress); err != nil || version != "v2" {
			t.Errorf("the answer is %q, %v", version, err)
		}
	})
	t.Run("is_undone", func(t *testing.T) {
		for _, want := range []string{"v2", "v1"} {
			args := []string{"-n", ns, "rollout", "undo", "deployment", "web"}
			if want == "v1" {
				args = append(args, "--to-revision=1")
			}
			load(t, []string{byAddress}, func() {
				kubectl(t, args...)
				kubectl(t, "-n", ns, "rollout", "status", "deployment", "web", "--timeout=90s")
			})
			// The last pod to leave is still asked until every node has heard of it.
			eventually(t, 10*time.Second, func() error {
				version, err := get(byAddress)
				if err == nil && version != want {
					err = fmt.Errorf("the answer is %s, not %s", version, want)
				}
				return err
			})
		}
	})
}

// nodeAddresses are the nodes' own, the server's first.
func nodeAddresses(t *testing.T) []string {
	t.Helper()
	return strings.Fields(kubectl(t, "get", "nodes", "-o", `jsonpath={.items[*].status.addresses[?(@.type=="InternalIP")].address}`))
}

// load asks several addresses without pause while something is done, and fails the test for each request that is lost.
func load(t *testing.T, urls []string, during func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var asked, lost atomic.Int64
	var askers sync.WaitGroup
	for _, url := range urls {
		askers.Go(func() {
			for ctx.Err() == nil {
				asked.Add(1)
				if _, err := get(url); err != nil {
					lost.Add(1)
					t.Logf("%s: %v", time.Now().Format(time.StampMilli), err)
				}
			}
		})
	}
	defer func() {
		cancel()
		askers.Wait()
		if lost.Load() > 0 || asked.Load() == 0 {
			t.Errorf("%d of %d requests were lost", lost.Load(), asked.Load())
		}
	}()
	during()
}
