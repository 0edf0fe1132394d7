package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
)

func measureStart(_ context.Context, _ options, s *side, r *results) error {
	r.add("cold start to node Ready", "%.2f s", s.start.Seconds())
	return nil
}

// measureAnswer creates a pod and its Service as soon as the node is ready, and calls it by the Service's DNS name until it answers.
func measureAnswer(ctx context.Context, _ options, s *side, r *results) error {
	c, err := newClient(s.config, true)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	began := time.Now()
	const name = "bench-web"
	pod := benchPod(name, "serve")
	pod.Labels = map[string]string{"app": name}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
		Selector: pod.Labels, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}},
	}}
	if _, err := c.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return err
	}
	if _, err := c.CoreV1().Services(namespace).Create(ctx, service, metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := answers(ctx, c, "http://"+name+"."+namespace+".svc.cluster.local./version"); err != nil {
		return errors.Join(err, whyNotRunning(ctx, c, name))
	}
	r.add("cold start to the first answer by a Service's DNS name", "%.2f s", (s.start + time.Since(began)).Seconds())
	now := int64(0)
	if err := c.CoreV1().Services(namespace).Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	return c.CoreV1().Pods(namespace).Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &now})
}

// whyNotRunning tells a pod's state.
func whyNotRunning(ctx context.Context, c kubernetes.Interface, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	p, err := c.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	return errors.New(state(p))
}

// answers calls a URL until it answers. Its name is resolved by the cluster's DNS, which has the tenth address of the Service range.
func answers(ctx context.Context, c kubernetes.Interface, url string) error {
	api, err := c.CoreV1().Services("default").Get(ctx, "kubernetes", metav1.GetOptions{})
	if err != nil {
		return err
	}
	dns := net.ParseIP(api.Spec.ClusterIP).To4()
	dns[3] += 9
	dialer := net.Dialer{Timeout: time.Second, Resolver: &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, net.JoinHostPort(dns.String(), "53"))
	}}}
	client := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
	for {
		err := call(ctx, client, url)
		if err == nil {
			return nil
		}
		if waitErr := sleep(ctx, 5*time.Millisecond); waitErr != nil {
			return fmt.Errorf("no answer: %w", err)
		}
	}
}

func call(ctx context.Context, client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return nil
}

func measureIdle(ctx context.Context, o options, s *side, r *results) error {
	if err := sleep(ctx, 10*time.Second); err != nil { // what a start leaves to be done
		return err
	}
	before, err := cpu(s.pids)
	if err != nil {
		return err
	}
	if err := sleep(ctx, o.idle); err != nil {
		return err
	}
	after, err := cpu(s.pids)
	if err != nil {
		return err
	}
	memory, err := pss(s.pids)
	if err != nil {
		return err
	}
	r.add("idle memory of all processes (PSS)", "%.0f MB", float64(memory)/1e6)
	r.add(fmt.Sprintf("idle CPU over %s", o.idle), "%.2f %% of a core", 100*(after-before).Seconds()/o.idle.Seconds())
	return nil
}

// measureAgent tells what a machine that is but a node spends on it: kubelet, runtime, proxy and DNS. Resident memory is counted in full:
// on such a machine nobody else would share it, as a server does here that runs the same program.
func measureAgent(ctx context.Context, _ options, s *side, r *results) error {
	if err := sleep(ctx, 20*time.Second); err != nil {
		return err
	}
	var sum int64
	for _, pid := range s.node {
		status, err := kilobytes(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return err
		}
		sum += status["VmRSS"]
	}
	r.add("idle memory of a node's processes (kubelet, runtime, proxy, DNS; RSS)", "%.0f MB", float64(sum)/1e6)
	return nil
}
