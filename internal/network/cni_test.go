package network

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"clipper.dev/clipper/internal/netlab"
)

// fakePlugin notes how it was called and answers an address, or fails if a file of that name exists beside it.
const fakePlugin = `#!/bin/sh
input=$(cat)
echo "$(basename "$0") $CNI_COMMAND id=$CNI_CONTAINERID if=$CNI_IFNAME args=$CNI_ARGS $input" >>"$(dirname "$0")/../log"
[ -e "$0-fails" ] && echo '{"code": 11, "msg": "try again", "details": "later"}' && exit 1
[ "$CNI_COMMAND" = ADD ] && [ ! -e "$CNI_NETNS" ] && exit 3
[ "$CNI_COMMAND" = ADD ] && echo '{"cniVersion":"1.1.0","interfaces":[{"name":"host0"},{"name":"eth0","sandbox":"x"}],"ips":[{"address":"10.1.0.1/24","interface":0},{"address":"10.1.0.2/24","interface":1}]}'
exit 0
`

type cniLab struct {
	t   *testing.T
	dir string
	cni *CNI
}

func newCNILab(t *testing.T, conf string) *cniLab {
	l := &cniLab{t: t, dir: t.TempDir()}
	for _, sub := range []string{"conf", "bin", "state"} {
		if err := os.Mkdir(filepath.Join(l.dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"first", "second"} {
		l.write("bin/"+name, fakePlugin)
	}
	if conf != "" {
		l.write("conf/10-test.conflist", conf)
	}
	l.open()
	return l
}

func (l *cniLab) open() {
	l.t.Helper()
	var err error
	l.cni, err = NewCNI(CNIConfig{ConfDir: filepath.Join(l.dir, "conf"), BinDirs: []string{filepath.Join(l.dir, "none"), filepath.Join(l.dir, "bin")}, StateDir: filepath.Join(l.dir, "state")})
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *cniLab) write(name, content string) {
	l.t.Helper()
	if err := os.WriteFile(filepath.Join(l.dir, name), []byte(content), 0o755); err != nil {
		l.t.Fatal(err)
	}
}

// calls returns what plugins were called with since the last time.
func (l *cniLab) calls() []string {
	data, err := os.ReadFile(filepath.Join(l.dir, "log"))
	if err != nil && !os.IsNotExist(err) {
		l.t.Fatal(err)
	}
	_ = os.Remove(filepath.Join(l.dir, "log"))
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

const twoPlugins = `{"cniVersion": "1.1.0", "name": "test", "plugins": [
	{"type": "first", "own": 7, "capabilities": {"ipRanges": true}},
	{"type": "second", "capabilities": {"portMappings": true, "bandwidth": true}}]}`

func TestCNIRunsPluginsInOrderAndBack(t *testing.T) {
	l := newCNILab(t, twoPlugins)
	if err := l.cni.Ready(); err != nil {
		t.Fatal(err)
	}
	if got := l.calls(); len(got) != 2 || !strings.HasPrefix(got[0], "first STATUS id= ") {
		t.Errorf("Ready called %q", got)
	}
	if err := l.cni.SetPodCIDRs(t.Context(), []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}); err != nil {
		t.Fatal(err)
	}
	pod := Sandbox{ID: "abc", Namespace: "default", Name: "web", UID: "u", NetNS: netlab.New(t).File, IngressBitsPerSecond: 1000,
		HostPorts: []HostPort{{Protocol: "TCP", HostPort: 8080, ContainerPort: 80}}}
	addrs, err := l.cni.Attach(t.Context(), pod)
	if err != nil || fmt.Sprint(addrs) != "[10.1.0.2]" {
		t.Fatalf("Attach = %v, %v", addrs, err)
	}
	got := l.calls()
	const who = "id=abc if=eth0 args=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=u "
	want := []string{
		"first ADD " + who + `{"cniVersion":"1.1.0","name":"test","own":7,"runtimeConfig":{"ipRanges":[[{"subnet":"10.1.0.0/24"}]]},"type":"first"}`,
		"second ADD " + who + `{"cniVersion":"1.1.0","name":"test","prevResult":{`,
	}
	if len(got) != 2 || got[0] != want[0] || !strings.HasPrefix(got[1], want[1]) ||
		!strings.Contains(got[1], `"runtimeConfig":{"bandwidth":{"ingressRate":1000,"ingressBurst":2147483647},"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}`) {
		t.Errorf("Attach called\n%s", strings.Join(got, "\n"))
	}
	// After a restart, and with another configuration, DEL gets what ADD had.
	l.write("conf/10-test.conflist", `{"cniVersion": "1.0.0", "name": "new", "plugins": [{"type": "second"}]}`)
	l.open()
	if addrs, ok := l.cni.Addresses("abc"); !ok || fmt.Sprint(addrs) != "[10.1.0.2]" {
		t.Errorf("Addresses = %v, %v", addrs, ok)
	}
	for range 2 {
		if err := l.cni.Detach(t.Context(), "abc"); err != nil {
			t.Fatal(err)
		}
	}
	got = l.calls()
	if len(got) != 2 || !strings.HasPrefix(got[0], "second DEL "+who) || !strings.HasPrefix(got[1], "first DEL "+who) || !strings.Contains(got[1], `"prevResult":{"cniVersion"`) {
		t.Errorf("Detach called\n%s", strings.Join(got, "\n"))
	}
	if _, ok := l.cni.Addresses("abc"); ok {
		t.Error("it still has addresses")
	}
}

func TestCNIFailuresAreToldAndUndone(t *testing.T) {
	l := newCNILab(t, twoPlugins)
	l.write("bin/second-fails", "")
	pod := Sandbox{ID: "abc", Namespace: "default", Name: "web", NetNS: netlab.New(t).File}
	_, err := l.cni.Attach(t.Context(), pod)
	if err == nil || !strings.Contains(err.Error(), `plugin type="second" name="test" failed (add): try again; later`) {
		t.Errorf("err = %v", err)
	}
	if err := l.cni.Detach(t.Context(), "abc"); err == nil {
		t.Error("a failed DEL was taken for a success")
	}
	if err := os.Remove(filepath.Join(l.dir, "bin/second-fails")); err != nil {
		t.Fatal(err)
	}
	l.calls()
	if _, err := l.cni.Attach(t.Context(), pod); err != nil {
		t.Error(err)
	}
	if got := l.calls(); len(got) != 4 || !strings.HasPrefix(got[0], "second DEL") || !strings.HasPrefix(got[3], "second ADD") {
		t.Errorf("called\n%s", strings.Join(got, "\n"))
	}
}

func TestCNIConfigurations(t *testing.T) {
	tests := []struct{ name, file, content, want string }{
		{"none", "x.txt", "", "no network config found"},
		{"single", "x.conf", `{"cniVersion":"1.0.0","name":"n","type":"first"}`, ""},
		{"no_name", "x.conf", `{"type":"first"}`, "it has no name"},
		{"a_path_as_type", "x.conf", `{"name":"n","type":"../first"}`, "plugin 1 has no valid type"},
		{"no_plugin", "x.conf", `{"name":"n","type":"other"}`, `failed to find plugin "other" in path`},
		{"broken", "x.conflist", `{`, "unexpected end of JSON input"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := newCNILab(t, "")
			l.write("conf/"+test.file, test.content)
			err := l.cni.Ready()
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("Ready = %v", err)
			}
		})
	}
}
