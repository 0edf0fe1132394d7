package plugins

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// driver is a plugin that wants to be registered.
type driver struct {
	registerapi.UnimplementedRegistrationServer
	name string
	told chan *registerapi.RegistrationStatus
}

func (d *driver) GetInfo(context.Context, *registerapi.InfoRequest) (*registerapi.PluginInfo, error) {
	return &registerapi.PluginInfo{Type: registerapi.CSIPlugin, Name: d.name, Endpoint: "/csi.sock", SupportedVersions: []string{"1.0.0"}}, nil
}

func (d *driver) NotifyRegistrationStatus(_ context.Context, s *registerapi.RegistrationStatus) (*registerapi.RegistrationStatusResponse, error) {
	d.told <- s
	return &registerapi.RegistrationStatusResponse{}, nil
}

// handler notes what it is asked.
type handler struct {
	refuse string
	calls  chan string
}

func (h *handler) Validate(name, _ string, _ []string) error {
	if name == h.refuse {
		return errors.New("not this one")
	}
	return nil
}

func (h *handler) Register(_ context.Context, name, endpoint string, _ []string) error {
	h.calls <- "register " + name + " " + endpoint
	return nil
}

func (h *handler) Deregister(_ context.Context, name, _ string) { h.calls <- "deregister " + name }

func serve(t *testing.T, path, name string) (d *driver, stop func()) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	d = &driver{name: name, told: make(chan *registerapi.RegistrationStatus, 1)}
	s := grpc.NewServer()
	registerapi.RegisterRegistrationServer(s, d)
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(l) }()
	return d, func() { s.Stop(); <-served; os.Remove(path) }
}

func TestAPluginIsRegisteredWhileItsSocketIsThere(t *testing.T) {
	dir := t.TempDir()
	h := &handler{refuse: "bad", calls: make(chan string, 4)}
	r := New(Config{Dir: dir, Handlers: map[string]Handler{registerapi.CSIPlugin: h}, Logger: slog.New(slog.DiscardHandler)})
	d, stop := serve(t, filepath.Join(dir, "d-reg.sock"), "d")
	changes := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, changes) }()
	if got := <-h.calls; got != "register d /csi.sock" {
		t.Errorf("got %q", got)
	}
	if s := <-d.told; !s.PluginRegistered {
		t.Errorf("the plugin was told %v", s)
	}
	stop()
	changes <- struct{}{}
	if got := <-h.calls; got != "deregister d" {
		t.Errorf("got %q", got)
	}
	bad, stopBad := serve(t, filepath.Join(dir, "bad.sock"), "bad")
	defer stopBad()
	changes <- struct{}{}
	if s := <-bad.told; s.PluginRegistered || s.Error != "plugin validation failed with err: not this one" {
		t.Errorf("the plugin was told %v", s)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
