package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
)

var dockerDir = flag.String("docker", "", "folder with dockerd, its containerd, docker and cri-dockerd, which take the built-in runtime's place on a cluster of one node; it needs runc, socat and the CNI plugins too")

// docker is a Docker engine with cri-dockerd before it, and with a container in it that Clipper did not start.
type docker struct {
	place
	conn    *grpc.ClientConn
	foreign string // its process
}

func newDocker() *docker { return &docker{place: newPlace("docker")} }

func (d *docker) endpoint() string { return "unix://" + d.state + "/cri.sock" }

func (d *docker) socket() string { return "unix://" + d.state + "/docker.sock" }

// cri-dockerd fills in the pods' addresses.
const dockerCNI = `{"cniVersion":"1.0.0","name":"e2e","plugins":[
{"type":"bridge","bridge":"%s","isGateway":true,"ipMasq":true,"hairpinMode":true,"capabilities":{"ipRanges":true},
 "ipam":{"type":"host-local","dataDir":"%s/ipam","routes":[{"dst":"0.0.0.0/0"}]}},
{"type":"portmap","capabilities":{"portMappings":true}}]}`

// clampedRunc is runc for a machine where nobody may lower OOM scores, as cri-dockerd wants for sandboxes; containerd has a setting for it.
const clampedRunc = `#!/bin/sh
for word; do
	if [ "$before" = --bundle ]; then
		sed -i -E 's/"oomScoreAdj":-[0-9]+/"oomScoreAdj":0/' "$word/config.json"
	fi
	before=$word
done
exec runc "$@"
`

// foreignName is the name of the container that Clipper did not start.
const foreignName = "foreign"

func (d *docker) start() error {
	for _, dir := range []string{d.dir + "/cni", d.dir + "/data", d.dir + "/cri", d.state} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return err
		}
	}
	if err := os.WriteFile(d.dir+"/cni/e2e.conflist", fmt.Appendf(nil, dockerCNI, d.bridge, d.state), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(d.dir+"/clamped-runc", []byte(clampedRunc), 0o755); err != nil {
		return err
	}
	err := d.run(*dockerDir, "dockerd", "--add-runtime", "clamped="+d.dir+"/clamped-runc", "--default-runtime", "clamped", "--data-root", d.dir+"/data", "--exec-root", d.state+"/exec", "--pidfile", d.state+"/docker.pid", "--host", d.socket(),
		"--bridge", "none", "--userland-proxy=false", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false",
		"--storage-driver", "overlay2", "--exec-opt", "native.cgroupdriver=cgroupfs", "--log-level", "warn")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for _, err := d.docker("info"); err != nil; _, err = d.docker("info") {
		select {
		case <-ctx.Done():
			return fmt.Errorf("dockerd does not answer: %w", err)
		case <-time.After(200 * time.Millisecond):
		}
	}
	demo, pause, err := d.archives()
	if err != nil {
		return err
	}
	for _, archive := range []string{demo, pause} {
		if _, err := d.docker("load", "--input", archive); err != nil {
			return err
		}
	}
	err = d.run(*dockerDir, "cri-dockerd", "--container-runtime-endpoint", d.endpoint(), "--docker-endpoint", d.socket(), "--cri-dockerd-root-directory", d.dir+"/cri",
		"--pod-infra-container-image", pauseImage, "--network-plugin", "cni", "--cni-bin-dir", cniPlugins, "--cni-conf-dir", d.dir+"/cni", "--cni-cache-dir", d.dir+"/cni-cache",
		"--streaming-bind-addr", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if d.conn, err = dialRuntime(ctx, d.endpoint()); err != nil {
		return fmt.Errorf("cri-dockerd does not answer: %w", err)
	}
	if _, err := d.docker("run", "--detach", "--name", foreignName, "--network", "host", "--cgroup-parent", foreignCgroup(), "clipper.dev/demo:v1", "sleep", "99999h"); err != nil {
		return err
	}
	d.foreign, err = d.pidOfForeign()
	return err
}

func (d *docker) docker(args ...string) (string, error) {
	out, err := exec.Command(filepath.Join(*dockerDir, "docker"), append([]string{"--host", d.socket()}, args...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("docker %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// pidOfForeign finds the foreign container's process, if it runs.
func (d *docker) pidOfForeign() (string, error) {
	pid, err := d.docker("inspect", "--format", "{{.State.Pid}}", foreignName)
	if err == nil && pid == "0" {
		err = errors.New("the foreign container does not run")
	}
	return pid, err
}

func (d *docker) untouched() error {
	pid, err := d.pidOfForeign()
	if err == nil && pid != d.foreign {
		err = fmt.Errorf("the foreign container is now process %s, was %s", pid, d.foreign)
	}
	return err
}

func (d *docker) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	errs := []error{removePods(ctx, d.conn), d.conn.Close()}
	_, err := d.docker("rm", "--force", foreignName)
	return errors.Join(append(errs, err, d.clear())...)
}
