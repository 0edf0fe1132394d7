package main

import (
	"context"
	_ "embed"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// commands are upstream's programs by name, as this module pins them.
var commands = map[string]string{
	"etcd":                    "go.etcd.io/etcd/server/v3",
	"kube-apiserver":          "k8s.io/kubernetes/cmd/kube-apiserver",
	"kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
	"kube-scheduler":          "k8s.io/kubernetes/cmd/kube-scheduler",
	"kubelet":                 "k8s.io/kubernetes/cmd/kubelet",
	"kube-proxy":              "k8s.io/kubernetes/cmd/kube-proxy",
}

// coreDNS is the version that kubeadm v1.36 installs. Its dependencies are other versions than this module's: it is built by itself.
const coreDNS = "github.com/coredns/coredns@v1.14.2"

//go:embed pause/pause.c
var pauseSource string

// buildUpstream builds what is not up to date.
func buildUpstream(ctx context.Context, scratch string) error {
	const flags = "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3"
	for name, pkg := range commands {
		log.Printf("building upstream's %s", name)
		if err := goCommand(ctx, nil, "build", "-ldflags", flags, "-o", filepath.Join(scratch, name), pkg); err != nil {
			return err
		}
	}
	log.Printf("building %s", coreDNS)
	if err := goCommand(ctx, []string{"GOBIN=" + scratch}, "install", "-ldflags", "-s -w", coreDNS); err != nil {
		return err
	}
	cc := exec.CommandContext(ctx, "gcc", "-Os", "-static", "-s", "-o", filepath.Join(scratch, "pause"), "-x", "c", "-")
	cc.Stdin = strings.NewReader(pauseSource)
	if out, err := cc.CombinedOutput(); err != nil {
		return fmt.Errorf("build pause: %w\n%s", err, out)
	}
	return nil
}

// goCommand runs go in this module's folder, which run starts it in, or where it was started.
func goCommand(ctx context.Context, env []string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}
