package e2e

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	health "google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// calls are the servers that probes and hooks call, and what has come to them.
type calls struct {
	*walk
	health.UnimplementedHealthServer
	http, grpc int32

	mu   sync.Mutex
	came map[string]string // how, by the protocol and who called
}

func (c *calls) note(call, how string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.came[call] = how
}

func (c *calls) listen() (net.Listener, int32) {
	c.Helper()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		c.Fatal(err)
	}
	return l, int32(l.Addr().(*net.TCPAddr).Port)
}

// Check is called by gRPC probes.
func (c *calls) Check(_ context.Context, r *health.HealthCheckRequest) (*health.HealthCheckResponse, error) {
	c.note("grpc "+r.Service, "came")
	return &health.HealthCheckResponse{Status: health.HealthCheckResponse_SERVING}, nil
}

const probeKinds = "livenessProbe readinessProbe startupProbe"

// startCalls starts the servers, and a pod whose containers of both kinds have each probe and hook with each handler.
func (w *walk) startCalls() *calls {
	c := &calls{walk: w, came: map[string]string{}}
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.Host)
		c.note("http "+strings.TrimPrefix(r.URL.Path, "/"), fmt.Sprint(host, " ", r.TLS != nil, " ", r.Header.Get("X-Walk")))
	}))
	web.Listener, c.http = c.listen()
	web.TLS = &tls.Config{}
	web.StartTLS()
	w.Cleanup(web.Close)
	listener, port := c.listen()
	c.grpc = port
	server := grpc.NewServer()
	health.RegisterHealthServer(server, c)
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(listener) })
	w.Cleanup(func() { server.Stop(); served.Wait() })

	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "called"}, Spec: corev1.PodSpec{
		NodeName: w.node, HostNetwork: true, TerminationGracePeriodSeconds: new(int64(10)),
		Volumes: []corev1.Volume{{Name: "seen", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: w.dir}}}},
	}}
	for _, handler := range []string{"exec", "httpGet", "tcpSocket", "grpc"} {
		for _, kind := range []string{"containers", "initContainers"} {
			one := c.container(kind, handler, &served)
			if kind == "containers" {
				pod.Spec.Containers = append(pod.Spec.Containers, one)
				continue
			}
			one.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
			pod.Spec.InitContainers = append(pod.Spec.InitContainers, one)
		}
	}
	if _, err := clientset(w.T).CoreV1().Pods(w.ns).Create(w.Context(), pod, metav1.CreateOptions{}); err != nil {
		w.Fatal(err)
	}
	return c
}

func (c *calls) container(kind, handler string, served *sync.WaitGroup) corev1.Container {
	one := corev1.Container{
		Name: strings.ToLower(handler + "-" + kind), Image: "clipper.dev/demo:v1", Args: []string{"sleep", "1h"},
		VolumeMounts: []corev1.VolumeMount{{Name: "seen", MountPath: "/seen"}}, Lifecycle: &corev1.Lifecycle{},
	}
	for probe, at := range map[string]**corev1.Probe{"livenessProbe": &one.LivenessProbe, "readinessProbe": &one.ReadinessProbe, "startupProbe": &one.StartupProbe} {
		call := probe + "-" + kind
		*at = &corev1.Probe{PeriodSeconds: 1}
		switch handler {
		case "exec":
			(*at).Exec = c.exec(call)
		case "httpGet":
			(*at).HTTPGet = c.get(call)
		case "grpc":
			(*at).GRPC = &corev1.GRPCAction{Port: c.grpc, Service: new(call)}
		case "tcpSocket":
			listener, port := c.listen()
			c.Cleanup(func() { listener.Close() })
			served.Go(func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					conn.Close()
					c.note("tcp "+call, "came")
				}
			})
			name := strings.ToLower(strings.TrimSuffix(probe, "Probe")) + kind[:1]
			one.Ports = append(one.Ports, corev1.ContainerPort{Name: name, ContainerPort: port})
			(*at).TCPSocket = &corev1.TCPSocketAction{Port: intstr.FromString(name), Host: "127.0.0.1"}
		}
	}
	switch handler {
	case "exec":
		one.Lifecycle.PostStart = &corev1.LifecycleHandler{Exec: c.exec("postStart-" + kind)}
		one.Lifecycle.PreStop = &corev1.LifecycleHandler{Exec: c.exec("preStop-" + kind)}
	case "httpGet":
		one.Lifecycle.PostStart = &corev1.LifecycleHandler{HTTPGet: c.get("postStart-" + kind)}
		one.Lifecycle.PreStop = &corev1.LifecycleHandler{HTTPGet: c.get("preStop-" + kind)}
	case "grpc":
		one.Lifecycle.PostStart = &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 1}}
		one.Lifecycle.PreStop = &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 1}}
	}
	return one
}

func (c *calls) exec(call string) *corev1.ExecAction {
	return &corev1.ExecAction{Command: []string{"/demo", "try", "/seen/" + call, "1"}}
}

func (c *calls) get(call string) *corev1.HTTPGetAction {
	return &corev1.HTTPGetAction{
		Host: "127.0.0.1", Port: intstr.FromInt32(c.http), Scheme: corev1.URISchemeHTTPS, Path: "/" + call,
		HTTPHeaders: []corev1.HTTPHeader{{Name: "X-Walk", Value: call}},
	}
}

// check waits until the pod is ready, ends it, and looks at what has come.
func (c *calls) check() {
	pod := awaitPods(c.T, c.ns, "", 40*time.Second, func(pods map[string]corev1.Pod) error {
		called := pods["called"]
		for _, cond := range called.Status.Conditions {
			if cond.Type == corev1.PodReady && cond.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("the pod that is to be called isn't ready: %+v", called.Status.Conditions)
	})["called"]
	slept := func(from, to metav1.Time) bool { return !to.Time.Before(from.Add(time.Second)) }
	started := map[string]metav1.Time{}
	for _, s := range append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...) {
		if s.State.Running == nil {
			c.Fatalf("%s doesn't run", s.Name)
		}
		started[s.Name] = s.State.Running.StartedAt
	}
	var ready metav1.Time
	for _, cond := range pod.Status.Conditions {
		if cond.Type == corev1.PodReady {
			ready = cond.LastTransitionTime
		}
	}
	c.holds("initContainers[].lifecycle.postStart.sleep.seconds initContainers[].restartPolicy", slept(started["grpc-initcontainers"], started["exec-containers"]), "the containers didn't wait for the sidecar's hook")
	c.holds("containers[].lifecycle.postStart.sleep.seconds", slept(started["grpc-containers"], ready), "the pod was ready before its hook was over")
	c.holds("hostNetwork", pod.Status.PodIP == pod.Status.HostIP, "%s", pod.Status.PodIP)
	before := time.Now()
	kubectl(c.T, "-n", c.ns, "delete", "pod", "called", "--wait=true")
	c.holds("containers[].lifecycle.preStop.sleep.seconds initContainers[].lifecycle.preStop.sleep.seconds", time.Since(before) >= time.Second, "the end came after %s", time.Since(before))
	for _, kind := range []string{"containers", "initContainers"} {
		for _, what := range append(strings.Fields(probeKinds), "postStart", "preStop") {
			c.lookAt(kind, what)
		}
	}
}

func (c *calls) lookAt(kind, what string) {
	start, call := kind+"[].", what+"-"+kind
	if strings.HasPrefix(what, "p") {
		start += "lifecycle."
	}
	start += what + "."
	_, err := os.Stat(filepath.Join(c.dir, call))
	c.holds(start+"exec.command[]", err == nil, "it wasn't run: %v", err)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.see(below(start+"httpGet.", "path port host scheme httpHeaders[].name httpHeaders[].value"), c.came["http "+call], "127.0.0.1 true "+call)
	if strings.HasSuffix(what, "Probe") {
		c.see(below(start+"tcpSocket.", "host port")+" "+below(kind+"[].ports[].", "name containerPort"), c.came["tcp "+call], "came")
		c.see(below(start+"grpc.", "port service"), c.came["grpc "+call], "came")
	}
}

// claims are a token's audience, how long it lives, and whose it is.
func claims(t *testing.T, token string) (audience string, lifetime int64, subject string) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%q is no token", token)
	}
	data, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Aud      []string `json:"aud"`
		Exp, Iat int64
		Sub      string
	}
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(c.Aud), c.Exp - c.Iat, c.Sub
}
