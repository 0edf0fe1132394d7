package apiserver

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/apiserver/request"
)

// serveConnect serves the subresources that stream: log, exec, attach, portforward and proxy.
func (s *Server) serveConnect(w *response, r *http.Request, t target, info *request.Info) error {
	if t.sub == "proxy" {
		return s.serveProxy(w, r, t, info)
	}
	options, err := connectOptions(t, r.URL.Query())
	if err != nil {
		return err
	}
	if t.sub != "log" { // whether the pod is there is told only to who may connect
		if err := s.admitConnect(r, t, options); err != nil {
			return err
		}
	}
	e, err := s.get(r.Context(), target{v: t.v, namespace: t.namespace, name: t.name}, "")
	if err != nil {
		return err
	}
	obj, err := objectOf(e)
	if err != nil {
		return err
	}
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return errUnserved
	}
	location, err := kubeletPath(t.sub, pod, options)
	if err != nil {
		return err
	}
	if s.cfg.Kubelets == nil {
		return apierrors.NewInternalError(fmt.Errorf("this server has no way to reach the kubelets"))
	}
	if pod.Spec.NodeName == "" {
		if t.sub == "log" {
			// Upstream answers with nothing for a pod that runs nowhere yet.
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		return apierrors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", pod.Name))
	}
	o, plain := options.(*corev1.PodLogOptions)
	return s.forwardToKubelet(w, r, pod, location, plain, plain && o.InsecureSkipTLSVerifyBackend)
}

// admitConnect lets the plugins judge a connection.
func (s *Server) admitConnect(r *http.Request, t target, options runtime.Object) error {
	request := t.admission(r.Context(), admission.Connect, options, nil, nil, false)
	if err := s.mutate(r.Context(), request); err != nil {
		return err
	}
	finish, err := s.validate(r.Context(), request)
	if err != nil {
		return err
	}
	finish(true)
	return nil
}

// connectOptions reads the query of a streaming subresource.
func connectOptions(t target, q url.Values) (runtime.Object, error) {
	switch t.sub {
	case "log":
		return logOptions(t.name, q)
	case "exec":
		return &corev1.PodExecOptions{
			Stdin: flag(q, "stdin"), Stdout: flag(q, "stdout"), Stderr: flag(q, "stderr"), TTY: flag(q, "tty"),
			Container: q.Get("container"), Command: q["command"],
		}, nil
	case "attach":
		return &corev1.PodAttachOptions{
			Stdin: flag(q, "stdin"), Stdout: flag(q, "stdout"), Stderr: flag(q, "stderr"), TTY: flag(q, "tty"), Container: q.Get("container"),
		}, nil
	}
	ports, err := readPorts(q["ports"])
	return &corev1.PodPortForwardOptions{Ports: ports}, err
}

// flag reads a flag of a query as upstream does: there, and anything but 0 and false, is true.
func flag(q url.Values, name string) bool {
	v := q[name]
	return len(v) > 0 && v[0] != "0" && !strings.EqualFold(v[0], "false")
}

func readPorts(texts []string) ([]int32, error) {
	var out []int32
	for _, text := range texts {
		for _, part := range strings.Split(text, ",") {
			port, err := strconv.ParseInt(part, 10, 32)
			if err != nil {
				return nil, apierrors.NewBadRequest(err.Error())
			}
			out = append(out, int32(port))
		}
	}
	return out, nil
}

// kubeletPath is where the kubelet serves what is asked of a pod.
func kubeletPath(sub string, pod *corev1.Pod, options runtime.Object) (*url.URL, error) {
	q := url.Values{}
	var container string
	var err error
	verb := map[string]string{"log": "containerLogs", "exec": "exec", "attach": "attach", "portforward": "portForward"}[sub]
	switch o := options.(type) {
	case *corev1.PodLogOptions:
		container, err = chooseContainer(pod, o.Container)
		logQuery(q, o)
	case *corev1.PodExecOptions:
		container, err = chooseContainer(pod, o.Container)
		streamQuery(q, o.Stdin, o.Stdout, o.Stderr, o.TTY)
		q["command"] = o.Command
	case *corev1.PodAttachOptions:
		container, err = chooseContainer(pod, o.Container)
		streamQuery(q, o.Stdin, o.Stdout, o.Stderr, o.TTY)
	case *corev1.PodPortForwardOptions:
		if len(o.Ports) > 0 {
			q.Add("port", strings.Trim(strings.ReplaceAll(fmt.Sprint(o.Ports), " ", ","), "[]"))
		}
		return &url.URL{Path: fmt.Sprintf("/%s/%s/%s", verb, pod.Namespace, pod.Name), RawQuery: q.Encode()}, nil
	}
	if err != nil {
		return nil, err
	}
	return &url.URL{Path: fmt.Sprintf("/%s/%s/%s/%s", verb, pod.Namespace, pod.Name, container), RawQuery: q.Encode()}, nil
}

func streamQuery(q url.Values, stdin, stdout, stderr, tty bool) {
	for _, f := range []struct {
		name string
		on   bool
	}{{corev1.ExecStdinParam, stdin}, {corev1.ExecStdoutParam, stdout}, {corev1.ExecStderrParam, stderr}, {corev1.ExecTTYParam, tty}} {
		if f.on {
			q.Add(f.name, "1")
		}
	}
}

// chooseContainer returns the container asked for, the only one, or a refusal in upstream's words.
func chooseContainer(pod *corev1.Pod, name string) (string, error) {
	all := containerNames(pod)
	switch {
	case name != "" && !slices.Contains(all, name):
		return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
	case name != "":
		return name, nil
	case len(pod.Spec.Containers) == 1:
		return pod.Spec.Containers[0].Name, nil
	case len(pod.Spec.Containers) == 0:
		return "", apierrors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s", pod.Name))
	}
	return "", apierrors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s, choose one of: %s", pod.Name, all))
}

func containerNames(pod *corev1.Pod) []string {
	var out []string
	for i := range pod.Spec.InitContainers {
		out = append(out, pod.Spec.InitContainers[i].Name)
	}
	for i := range pod.Spec.Containers {
		out = append(out, pod.Spec.Containers[i].Name)
	}
	for i := range pod.Spec.EphemeralContainers {
		out = append(out, pod.Spec.EphemeralContainers[i].Name)
	}
	return out
}
