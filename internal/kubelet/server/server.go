package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/exposition"
	"clipper.dev/clipper/internal/kubelet/cgroups"
	"clipper.dev/clipper/internal/kubelet/cri"
	"clipper.dev/clipper/internal/kubelet/lifecycle"
)

// Pod is what the kubelet knows of one pod. Read-only.
type Pod struct {
	*corev1.Pod
	Observed *lifecycle.Observed // nil before the runtime was asked
	Stopped  bool
}

// Backend is the kubelet behind the API.
type Backend interface {
	// ListPods returns all pods.
	ListPods() []Pod
	// FindPod returns a pod by its name, and UID if that's not empty.
	FindPod(namespace, name string, uid types.UID) (Pod, bool)
	// WatchPod returns a channel that gets a token after each change of a pod (nil for one that isn't known), and a function that ends it.
	WatchPod(uid types.UID) (<-chan struct{}, func())
}

// Config is what a server needs.
type Config struct {
	// Address is that of the HTTPS API; "" is none. Healthz and ReadOnly are addresses at which anybody may ask how the kubelet is, and read what it knows.
	Address, Healthz, ReadOnly string
	TLS                        *tls.Config
	// ClientCAs is the authority of clients at the moment, in place of TLS's; nil is TLS's for ever.
	ClientCAs func() *x509.CertPool
	// Access says who may do what.
	Access   Access
	Client   client.Client
	NodeName string
	Backend  Backend
	Runtime  *cri.Client
	Tree     *cgroups.Tree
	// RootDir is the kubelet's directory, for file system numbers. NodeLogDir is what /logs/ serves; "" serves nothing.
	RootDir, NodeLogDir string
	Capacity            corev1.ResourceList
	Machine             corev1.NodeSystemInfo // which machine it is
	// Metrics and Probes are served at /metrics and /metrics/probes. What the API itself counts is registered in Metrics.
	Metrics, Probes *prometheus.Registry
	// Volumes returns the numbers of a pod's volumes, those of emptyDirs apart.
	Volumes func(ctx context.Context, uid types.UID) []stats.VolumeStats
	// Settings are shown at /configz.
	Settings any
	// NoDebugging leaves out what looks into containers, NoProfiling what looks into the process.
	NoDebugging, NoProfiling bool
	Logger                   *slog.Logger
}

// server serves one kubelet.
type server struct {
	Config
	access   *access
	meter    *meter
	requests *requestMetrics
	pages    map[string]http.Handler // of metrics
	slis     *exposition.SLIs
}

const (
	headerTimeout = 30 * time.Second
	shutdownTime  = 2 * time.Second
)

// Run serves until ctx ends.
func Run(ctx context.Context, cfg Config) error {
	s := newServer(cfg)
	g, ctx := errgroup.WithContext(ctx)
	for _, one := range []struct {
		what, address string
		tls           *tls.Config
		handler       http.Handler
	}{
		{"the kubelet's API", cfg.Address, cfg.TLS, s.handler()},
		{"the kubelet's health", cfg.Healthz, nil, s.healthHandler()},
		{"the kubelet's read-only API", cfg.ReadOnly, nil, s.readOnlyHandler()},
	} {
		if one.address == "" {
			continue
		}
		l, err := net.Listen("tcp", one.address)
		if err != nil {
			err = fmt.Errorf("listen for %s at %s: %w", one.what, one.address, err)
			g.Go(func() error { return err })
			break
		}
		g.Go(func() error {
			if err := s.serve(ctx, l, one.tls, one.handler); err != nil {
				return fmt.Errorf("serve %s: %w", one.what, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// withAuthority has each client judged by the authority of the moment it comes: it takes up no former session.
func withAuthority(conf *tls.Config, authority func() *x509.CertPool) *tls.Config {
	conf.NextProtos = []string{"h2", "http/1.1"}
	conf.SessionTicketsDisabled = true
	out := conf.Clone()
	out.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now := conf.Clone()
		now.ClientCAs = authority()
		return now, nil
	}
	return out
}

func newServer(cfg Config) *server {
	now := time.Now()
	requests := newRequestMetrics(cfg.Metrics)
	return &server{
		Config: cfg, access: newAccess(cfg, requests), meter: newMeter(cfg), requests: requests,
		slis:  exposition.NewSLIs(now),
		pages: map[string]http.Handler{"/metrics": exposition.New(cfg.Metrics, now), "/metrics/probes": exposition.New(cfg.Probes, now)},
	}
}

// serve serves on a listener, which it closes, until ctx ends. Without a TLS configuration it's plain.
func (s *server) serve(ctx context.Context, l net.Listener, conf *tls.Config, handler http.Handler) error {
	h := &http.Server{
		Handler: handler, ReadHeaderTimeout: headerTimeout,
		ErrorLog:    slog.NewLogLogger(s.Logger.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	if conf != nil {
		h.TLSConfig = conf.Clone()
		h.TLSConfig.MinVersion = max(conf.MinVersion, tls.VersionTLS12)
		if conf.ClientCAs != nil {
			h.TLSConfig.ClientAuth = tls.VerifyClientCertIfGiven
		}
		if s.ClientCAs != nil {
			h.TLSConfig = withAuthority(h.TLSConfig, s.ClientCAs)
		}
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		quick, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
		defer cancel()
		if h.Shutdown(quick) != nil {
			h.Close()
		}
	}()
	var err error
	if conf != nil {
		err = h.ServeTLS(l, "", "")
	} else {
		err = h.Serve(l)
	}
	if ctx.Err() == nil {
		return err
	}
	<-stopped
	if !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// handler serves everything to those who may.
func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	s.addHealth(mux)
	s.addNumbers(mux)
	mux.HandleFunc("GET /configz", func(w http.ResponseWriter, _ *http.Request) {
		s.writeJSON(w, map[string]any{"kubeletconfig": s.Settings})
	})
	mux.HandleFunc("POST /checkpoint/{namespace}/{pod}/{container}", s.serveCheckpoint)
	if !s.NoDebugging {
		s.addDebugging(mux)
	}
	if !s.NoDebugging && !s.NoProfiling {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return s.requests.counted("readwrite", s.guard(mux))
}

func (s *server) healthHandler() http.Handler {
	mux := http.NewServeMux()
	s.addHealth(mux)
	return mux
}

func (s *server) readOnlyHandler() http.Handler {
	mux := http.NewServeMux()
	s.addHealth(mux)
	s.addNumbers(mux)
	return s.requests.counted("readonly", mux)
}

// healthChecks are what the kubelet answers for: that it answers at all, and that what it runs beside goes on, as it ends with any of it.
var healthChecks = []string{"ping", "log", "syncloop"}

func (s *server) addHealth(mux *http.ServeMux) {
	serve := func(path string, checks ...string) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			for _, check := range checks {
				s.slis.Found(check, "healthz", nil)
			}
			fmt.Fprint(w, "ok")
		})
	}
	serve("/healthz", healthChecks...)
	for _, check := range healthChecks {
		serve("/healthz/"+check, check)
	}
}

// addNumbers adds what tells of pods and what they use.
func (s *server) addNumbers(mux *http.ServeMux) {
	mux.HandleFunc("GET /pods", s.servePods)
	mux.HandleFunc("GET /pods/{$}", s.servePods)
	mux.HandleFunc("GET /stats/summary", s.serveSummary)
	mux.HandleFunc("POST /stats/summary", s.serveSummary)
	for path, page := range s.pages {
		mux.Handle("GET "+path, page)
	}
	mux.Handle("/metrics/slis", s.slis)
	mux.HandleFunc("GET /metrics/resource", s.serveResourceMetrics)
	mux.HandleFunc("GET /metrics/cadvisor", s.serveContainerMetrics)
}

// addDebugging adds what reaches into containers.
func (s *server) addDebugging(mux *http.ServeMux) {
	mux.HandleFunc("GET /runningpods/{$}", s.serveRunning)
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", s.serveLogs)
	for _, method := range []string{"GET ", "POST "} {
		mux.HandleFunc(method+"/exec/{namespace}/{pod}/{container}", lingering(s.serveExec))
		mux.HandleFunc(method+"/exec/{namespace}/{pod}/{uid}/{container}", lingering(s.serveExec))
		mux.HandleFunc(method+"/attach/{namespace}/{pod}/{container}", lingering(s.serveAttach))
		mux.HandleFunc(method+"/attach/{namespace}/{pod}/{uid}/{container}", lingering(s.serveAttach))
		mux.HandleFunc(method+"/portForward/{namespace}/{pod}", lingering(s.servePortForward))
		mux.HandleFunc(method+"/portForward/{namespace}/{pod}/{uid}", lingering(s.servePortForward))
	}
	mux.HandleFunc("POST /run/{namespace}/{pod}/{container}", s.serveRun)
	mux.HandleFunc("POST /run/{namespace}/{pod}/{uid}/{container}", s.serveRun)
	if s.NodeLogDir != "" {
		mux.Handle("GET /logs/", http.StripPrefix("/logs/", http.FileServer(http.Dir(s.NodeLogDir))))
	}
}

func (s *server) writeJSON(w http.ResponseWriter, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if _, err := w.Write(data); err != nil {
		s.Logger.Debug("answer not written", "error", err)
	}
}

func (s *server) servePods(w http.ResponseWriter, _ *http.Request) {
	s.writePods(w, func(Pod) bool { return true })
}

// serveRunning lists the pods of which something runs.
func (s *server) serveRunning(w http.ResponseWriter, _ *http.Request) {
	s.writePods(w, func(p Pod) bool { return p.Observed != nil && len(p.Observed.RunningContainers()) > 0 })
}

func (s *server) writePods(w http.ResponseWriter, keep func(Pod) bool) {
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: []corev1.Pod{}}
	for _, p := range s.Backend.ListPods() {
		if keep(p) {
			one := *p.Pod
			one.TypeMeta = metav1.TypeMeta{}
			list.Items = append(list.Items, one)
		}
	}
	s.writeJSON(w, list)
}

// container returns the pod and the running container that a request names, or answers with what's wrong.
func (s *server) container(w http.ResponseWriter, r *http.Request) (Pod, *lifecycle.Container, bool) {
	pod, ok := s.Backend.FindPod(r.PathValue("namespace"), r.PathValue("pod"), types.UID(r.PathValue("uid")))
	if !ok {
		http.Error(w, "pod does not exist", http.StatusNotFound)
		return Pod{}, nil, false
	}
	name := r.PathValue("container")
	if pod.Observed != nil {
		if c := pod.Observed.Container(name); c != nil {
			return pod, c, true
		}
	}
	http.Error(w, fmt.Sprintf("container not found (%q)", name), http.StatusNotFound)
	return Pod{}, nil, false
}

// serveRun runs a command and answers with its output.
func (s *server) serveRun(w http.ResponseWriter, r *http.Request) {
	_, c, ok := s.container(w, r)
	if !ok {
		return
	}
	out, err := s.exec(r.Context(), c.ID, strings.Split(r.FormValue("cmd"), " "))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if _, err := w.Write(out); err != nil {
		s.Logger.Debug("answer not written", "error", err)
	}
}
