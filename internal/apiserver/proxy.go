package apiserver

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	utilproxy "k8s.io/apimachinery/pkg/util/proxy"

	discoveryv1 "k8s.io/api/discovery/v1"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver/request"
)

// A backend is where a proxy request goes.
type backend struct {
	url       *url.URL
	transport http.RoundTripper
	dial      func(ctx context.Context) (net.Conn, error)
}

// serveProxy passes requests on to a node, a pod or a service.
func (s *Server) serveProxy(w *response, r *http.Request, t target, info *request.Info) error {
	if err := s.admitConnect(r, t, proxyOptions(t, info)); err != nil {
		return err
	}
	scheme, name, port, ok := utilnet.SplitSchemeNamePort(t.name)
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("invalid %s request %q", t.v.row.Singular, t.name))
	}
	t.name = name
	var b *backend
	var err error
	switch t.v.row.Name {
	case "nodes":
		b, err = s.nodeBackend(r.Context(), t, port)
	case "pods":
		b, err = s.podBackend(r.Context(), t, scheme, port)
	case "services":
		b, err = s.serviceBackend(r.Context(), t, scheme, port)
	default:
		return errUnserved
	}
	if err != nil {
		return err
	}
	if !info.RestSet && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		// As upstream: a proxy's root has a slash, so that relative links work.
		to := url.URL{Path: r.URL.Path + "/", RawQuery: r.URL.RawQuery}
		http.Redirect(w, r, to.String(), http.StatusMovedPermanently)
		return errStreamed
	}
	return s.passOn(w, r, b, info)
}

func proxyOptions(t target, info *request.Info) runtime.Object {
	switch t.v.row.Name {
	case "nodes":
		return &corev1.NodeProxyOptions{Path: info.Rest}
	case "services":
		return &corev1.ServiceProxyOptions{Path: info.Rest}
	}
	return &corev1.PodProxyOptions{Path: info.Rest}
}

// passOn sends a request to a backend below the path where the proxy's ends.
func (s *Server) passOn(w *response, r *http.Request, b *backend, info *request.Info) error {
	to := *b.url
	to.Path, to.RawQuery = info.Rest, r.URL.RawQuery
	if to.Path == "" {
		to.Path = "/"
	}
	if upgrades(r) {
		return s.tunnel(w, r, &to, b.dial)
	}
	proxy := &httputil.ReverseProxy{
		// Links and redirects of the backend lead back through the proxy.
		Transport:     &utilproxy.Transport{PathPrepend: proxyPrefix(r.URL.Path, info.Rest), RoundTripper: b.transport},
		FlushInterval: -1,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL = &to
			p.SetXForwarded()
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) {
			if apierrors.ReasonForError(err) == metav1.StatusReasonUnknown {
				err = apierrors.NewServiceUnavailable(fmt.Sprintf("error trying to reach service: %v", err))
			}
			s.fail(w, r, err)
		},
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.stop, cancel)()
	proxy.ServeHTTP(w, r.WithContext(ctx))
	return errStreamed
}

// proxyPrefix is the part of a request's path before that which the backend sees.
func proxyPrefix(path, rest string) string {
	if strings.HasSuffix(path, "/") && !strings.HasSuffix(rest, "/") {
		rest += "/"
	}
	return strings.TrimSuffix(path, rest)
}

func (s *Server) nodeBackend(ctx context.Context, t target, port string) (*backend, error) {
	node, err := getAs[*corev1.Node](ctx, s, t)
	if err != nil {
		return nil, err
	}
	if port != "" && port != strconv.Itoa(int(node.Status.DaemonEndpoints.KubeletEndpoint.Port)) {
		return s.plainBackend("http", net.JoinHostPort(nodeAddress(node), port)), nil
	}
	if s.cfg.Kubelets == nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("this server has no way to reach the kubelets"))
	}
	base, transport, err := s.cfg.Kubelets.Endpoint(ctx, node.Name, false)
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("reach the kubelet of node %q: %w", node.Name, err))
	}
	to, err := url.Parse(base)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	return &backend{to, transport, func(ctx context.Context) (net.Conn, error) { return s.cfg.Kubelets.Dial(ctx, node.Name) }}, nil
}

func nodeAddress(node *corev1.Node) string {
	for _, want := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP, corev1.NodeHostName} {
		for _, a := range node.Status.Addresses {
			if a.Type == want {
				return a.Address
			}
		}
	}
	return node.Name
}

// getAs reads the object that a request names, of a type that its kind must have.
func getAs[T api.Object](ctx context.Context, s *Server, t target) (T, error) {
	var none T
	e, err := s.get(ctx, t, "")
	if err != nil {
		return none, err
	}
	o, err := objectOf(e)
	if err != nil {
		return none, err
	}
	typed, ok := o.(T)
	if !ok {
		return none, errUnserved
	}
	return typed, nil
}

func (s *Server) podBackend(ctx context.Context, t target, scheme, port string) (*backend, error) {
	pod, err := getAs[*corev1.Pod](ctx, s, t)
	if err != nil {
		return nil, err
	}
	if port == "" {
		port = firstPort(pod)
	}
	ip := pod.Status.PodIP
	if ip == "" && len(pod.Status.PodIPs) > 0 {
		ip = pod.Status.PodIPs[0].IP
	}
	if err := proxyable(ip, "pods"); err != nil {
		return nil, err
	}
	host := ip
	if port != "" {
		host = net.JoinHostPort(ip, port)
	}
	return s.plainBackend(scheme, host), nil
}

func firstPort(pod *corev1.Pod) string {
	for i := range pod.Spec.Containers {
		if ports := pod.Spec.Containers[i].Ports; len(ports) > 0 {
			return strconv.Itoa(int(ports[0].ContainerPort))
		}
	}
	return ""
}

// proxyable refuses addresses that would lead to the server's own machine.
func proxyable(address, resource string) error {
	ip := net.ParseIP(address)
	if ip == nil || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() || ip.IsUnspecified() {
		return apierrors.NewBadRequest("address not allowed")
	}
	return nil
}

// plainBackend is a backend whose certificate, if any, is not checked, as upstream's proxies don't.
func (s *Server) plainBackend(scheme, host string) *backend {
	if scheme == "" {
		scheme = "http"
	}
	address := host
	if _, _, err := net.SplitHostPort(host); err != nil {
		address = net.JoinHostPort(host, map[string]string{"https": "443"}[scheme])
		if scheme == "http" {
			address = net.JoinHostPort(host, "80")
		}
	}
	insecure := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // pods have no certificates that could be checked
	dial := func(ctx context.Context) (net.Conn, error) {
		conn, err := s.cfg.Proxy(ctx, "tcp", address)
		if err != nil || scheme != "https" {
			return conn, err
		}
		return tls.Client(conn, insecure), nil
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return s.cfg.Proxy(ctx, network, addr)
		},
		TLSClientConfig:   insecure,
		DisableKeepAlives: true,
	}
	return &backend{&url.URL{Scheme: scheme, Host: host}, transport, dial}
}

// serviceBackend chooses one of a service's ready endpoints.
func (s *Server) serviceBackend(ctx context.Context, t target, scheme, port string) (*backend, error) {
	svc, err := getAs[*corev1.Service](ctx, s, t)
	if err != nil {
		return nil, err
	}
	portName, err := servicePort(svc, port)
	if err != nil {
		return nil, err
	}
	address, err := s.readyEndpoint(ctx, svc, portName)
	if err != nil {
		return nil, err
	}
	return s.plainBackend(scheme, address), nil
}

// servicePort finds the name of the port that a request names by name or number.
func servicePort(svc *corev1.Service, port string) (string, error) {
	if port == "" && len(svc.Spec.Ports) == 1 {
		return svc.Spec.Ports[0].Name, nil
	}
	for _, p := range svc.Spec.Ports {
		if port != "" && (p.Name == port || strconv.Itoa(int(p.Port)) == port) {
			return p.Name, nil
		}
	}
	if port == "" {
		return "", nil // the endpoints' unnamed port
	}
	return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %q found for service %q", port, svc.Name))
}

var endpointSlices = schema.GroupVersionResource{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}

func (s *Server) readyEndpoint(ctx context.Context, svc *corev1.Service, portName string) (string, error) {
	slices, err := s.Client(engineUser).List(ctx, endpointSlices, svc.Namespace, labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: svc.Name}))
	if err != nil {
		return "", err
	}
	var ready []string
	for _, o := range slices {
		slice, ok := o.(*discoveryv1.EndpointSlice)
		if !ok {
			continue
		}
		for _, p := range slice.Ports {
			if p.Port == nil || p.Name == nil || *p.Name != portName {
				continue
			}
			ready = append(ready, readyAddresses(slice, *p.Port)...)
		}
	}
	if len(ready) == 0 {
		return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", svc.Name))
	}
	return ready[rand.IntN(len(ready))], nil
}

func readyAddresses(slice *discoveryv1.EndpointSlice, port int32) []string {
	var out []string
	for _, ep := range slice.Endpoints {
		if ep.Conditions.Ready != nil && !*ep.Conditions.Ready || len(ep.Addresses) == 0 {
			continue
		}
		if proxyable(ep.Addresses[0], "endpoints") == nil {
			out = append(out, net.JoinHostPort(ep.Addresses[0], strconv.Itoa(int(port))))
		}
	}
	return out
}
