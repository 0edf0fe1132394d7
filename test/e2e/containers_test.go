package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// expect waits until a jsonpath of an object has a value.
func expect(t *testing.T, within time.Duration, ns, object, path, want string) {
	t.Helper()
	eventually(t, within, func() error {
		got, err := tryKubectl(t, "-n", ns, "get", object, "-o", "jsonpath="+path)
		if err == nil && got != want {
			err = fmt.Errorf("%s of %s is %q, not %q", path, object, got, want)
		}
		return err
	})
}

const restarts = "{.status.containerStatuses[0].restartCount}"

func TestContainers(t *testing.T) {
	ns := namespace(t)
	t.Run("one_that_exits_is_restarted_and_counted", func(t *testing.T) {
		apply(t, ns, `{apiVersion: v1, kind: Pod, metadata: {name: exits}, spec: {containers: [{name: c, image: "clipper.dev/demo:v1", args: [exit, "3", 1s]}]}}`)
		expect(t, 30*time.Second, ns, "pod/exits", restarts, "1")
		expect(t, 5*time.Second, ns, "pod/exits", "{.status.containerStatuses[0].lastState.terminated.exitCode}", "3")
	})
	t.Run("one_over_its_memory_limit_is_OOMKilled", func(t *testing.T) {
		apply(t, ns, `{apiVersion: v1, kind: Pod, metadata: {name: eats}, spec: {restartPolicy: Never, containers: [{name: c, image: "clipper.dev/demo:v1", args: [eat, "200"], resources: {limits: {memory: 48Mi}}}]}}`)
		expect(t, 30*time.Second, ns, "pod/eats", "{.status.containerStatuses[0].state.terminated.reason}", "OOMKilled")
	})
	t.Run("a_failing_liveness_probe_restarts", func(t *testing.T) {
		apply(t, ns, `{apiVersion: v1, kind: Pod, metadata: {name: ill}, spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: "clipper.dev/demo:v1", livenessProbe: {httpGet: {path: /healthz, port: 9}, periodSeconds: 1, failureThreshold: 2}}]}}`)
		expect(t, 30*time.Second, ns, "pod/ill", restarts, "1")
	})
	t.Run("a_failing_readiness_probe_leaves_the_endpoints", func(t *testing.T) {
		apply(t, ns, `
apiVersion: v1
kind: Pod
metadata: {name: shy, labels: {app: shy}}
spec: {containers: [{name: c, image: "clipper.dev/demo:v1", readinessProbe: {exec: {command: [/demo, lookup, no.such.name.invalid]}, periodSeconds: 1}}]}
---
apiVersion: v1
kind: Service
metadata: {name: shy}
spec: {selector: {app: shy}, ports: [{port: 80}]}
`)
		expect(t, 30*time.Second, ns, "pod/shy", "{.status.phase}", "Running")
		expect(t, 10*time.Second, ns, "endpointslices", `{.items[?(@.metadata.labels.kubernetes\.io/service-name=="shy")].endpoints[*].conditions.ready}`, "false")
	})
	t.Run("init_containers_run_before_and_config_reaches_the_container", func(t *testing.T) {
		apply(t, ns, `
apiVersion: v1
kind: ConfigMap
metadata: {name: cfg}
data: {greeting: hello}
---
apiVersion: v1
kind: Pod
metadata: {name: configured}
spec:
  initContainers: [{name: i, image: "clipper.dev/demo:v1", args: [sleep, 100ms]}]
  containers:
  - name: c
    image: clipper.dev/demo:v1
    env: [{name: GREETING, valueFrom: {configMapKeyRef: {name: cfg, key: greeting}}}, {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
    volumeMounts: [{name: v, mountPath: /etc/cfg}]
  volumes: [{name: v, configMap: {name: cfg}}]
`)
		expect(t, 30*time.Second, ns, "pod/configured", "{.status.phase}", "Running")
		out := kubectl(t, "-n", ns, "exec", "configured", "--", "/demo", "get", "http://localhost:8080/")
		for _, want := range []string{"GREETING=hello", "POD=configured", "/etc/cfg/greeting"} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is missing in\n%s", want, out)
			}
		}
	})
	t.Run("logs_are_kept", func(t *testing.T) {
		apply(t, ns, `{apiVersion: v1, kind: Pod, metadata: {name: talks}, spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: "clipper.dev/demo:v1", args: [lines, 1ms]}]}}`)
		eventually(t, 20*time.Second, func() error {
			out, err := tryKubectl(t, "-n", ns, "logs", "talks")
			if err == nil && strings.Count(out, "\n") < 100 {
				err = fmt.Errorf("there are %d lines", strings.Count(out, "\n"))
			}
			return err
		})
	})
}
