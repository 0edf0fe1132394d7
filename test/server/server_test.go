// Package server tests the API server as a process of its own: what its clients see when it is killed and comes back, and what they see
// when somebody sends it what is meant to hurt.
package server

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"clipper.dev/clipper/internal/cluster"
)

var (
	program = flag.String("clipper", "../../bin/clipper", "the program to test")
	name    = flag.String("name", "server-test", "name of the tests' cluster")
)

// api is the process.
var api process

type process struct {
	layout cluster.Layout
	cmd    *exec.Cmd
	log    *os.File
}

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		fmt.Println("tests of the server's process need root: left out with -short")
		os.Exit(0)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	fail := func(err error) int {
		fmt.Println(err)
		return 1
	}
	var err error
	if *program, err = filepath.Abs(*program); err != nil {
		return fail(err)
	}
	if api.layout, err = cluster.NewLayout(*name); err != nil {
		return fail(err)
	}
	if err := purge(); err != nil {
		return fail(err)
	}
	if api.log, err = os.CreateTemp("", "clipper-server-test"); err != nil {
		return fail(err)
	}
	defer os.Remove(api.log.Name())
	if err := api.start(); err != nil {
		return fail(errors.Join(err, purge()))
	}
	code := m.Run()
	api.kill()
	if err := purge(); err != nil {
		return fail(err)
	}
	return code
}

// purge removes what is left of a former run, or of this one.
func purge() error {
	out, err := exec.Command(*program, "down", "--purge", "--name", *name).CombinedOutput()
	if err != nil {
		return fmt.Errorf("clipper down --purge: %w: %s", err, out)
	}
	return nil
}

// start runs the process and waits until it is ready.
func (p *process) start() error {
	p.cmd = exec.Command(*program, "server", "--api-only", "--name", *name, "--log-level", "warn")
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	end := time.Now().Add(time.Minute)
	for {
		err := p.ready()
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			log, _ := os.ReadFile(p.log.Name())
			return fmt.Errorf("the server is not ready: %w\n%s", err, log)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (p *process) ready() error {
	config, err := p.config()
	if err != nil {
		return err
	}
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err = c.RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
	return err
}

// config is for a client of its own, with connections of its own.
func (p *process) config() (*rest.Config, error) {
	c, err := clientcmd.BuildConfigFromFlags("", p.layout.Kubeconfig())
	if err != nil {
		return nil, err
	}
	c.QPS = -1
	c.Dial = (&net.Dialer{}).DialContext // client-go shares the transports of configurations that have none
	return c, nil
}

// kill ends the process as kill -9 does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	_ = p.cmd.Wait()         // "signal: killed"
}

func (p *process) client(t testing.TB) kubernetes.Interface {
	t.Helper()
	config, err := p.config()
	if err != nil {
		t.Fatal(err)
	}
	config.ContentType = "application/vnd.kubernetes.protobuf"
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
