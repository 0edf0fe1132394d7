package e2e

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"clipper.dev/clipper/internal/cluster"
)

// refuses asserts that a command fails with one line that says what is wanted, and that nothing of the cluster is left.
func refuses(t *testing.T, l cluster.Layout, want string, args ...string) {
	t.Helper()
	out, err := programFor(l.Name, args...)
	if failed := (*exec.ExitError)(nil); !errors.As(err, &failed) {
		t.Fatalf("it was accepted: %v\n%s", err, out)
	}
	// Steps that were done before it failed are printed as they complete.
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for len(lines) > 1 && strings.Contains(lines[0], " s  ") {
		lines = lines[1:]
	}
	if len(lines) != 1 || !strings.Contains(lines[0], want) {
		t.Errorf("it says\n%s\nnot, in one line, %q", out, want)
	}
	if l.Name == badName {
		if err := remains(l); err != nil {
			t.Error(err)
		}
	}
}

func layout(t *testing.T, name string) cluster.Layout {
	t.Helper()
	l, err := cluster.NewLayout(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestBadInput(t *testing.T) {
	builtInOnly(t)
	l := layout(t, badName)
	for _, test := range []struct {
		name, want string
		args       []string
	}{
		{"an_unknown_flag", `unknown flag: --nope; see "clipper up --help"`, []string{"up", "--nope"}},
		{"a_flag_that_is_no_number", `invalid argument "many" for "--nodes" flag`, []string{"up", "--nodes=many"}},
		{"too_many_nodes", "use a number from 1 to 200", []string{"up", "--nodes=500"}},
		{"an_unknown_command", `unknown command "start"`, []string{"start"}},
		{"an_unknown_log_level", "use debug, info, warn or error", []string{"up", "--log-level=shout"}},
		{"an_address_that_is_none", `--node-ip "here"`, []string{"up", "--node-ip=here"}},
		{"a_name_that_no_node_can_have", `--node-name "A_B"`, []string{"up", "--node-name=A_B"}},
		{"a_label_that_no_node_can_have", `--node-labels a=b!: a valid label must be`, []string{"up", "--node-labels=a=b!"}},
		{"a_taint_that_is_none", "write key=value:Effect", []string{"up", "--node-taints=x"}},
		{"a_threshold_that_is_none", "evictionHard (--eviction-hard): unsupported eviction signal x", []string{"up", "--eviction-hard=x<1"}},
		{"a_runtime_that_is_not_there", "/no/such.sock: no such file or directory", []string{"up", "--container-runtime-endpoint=unix:///no/such.sock"}},
		{"a_registry_configuration_that_is_not_there", "read the registry configuration: open /no/such/file", []string{"up", "--registry-config=/no/such/file"}},
		{"images_without_a_cluster", `start it with "clipper up"`, []string{"image", "ls"}},
		{"a_status_without_a_cluster", `start one with "clipper up"`, []string{"status"}},
		{"an_end_without_a_cluster", "there is no cluster " + badName, []string{"down"}},
	} {
		t.Run(test.name, func(t *testing.T) { refuses(t, l, test.want, test.args...) })
	}
	for what, port := range map[string]int{"the API server": l.APIPort, "the kubelet": l.KubeletPort, "etcd's peers": l.PeerPort} {
		t.Run("a_port_that_is_taken/"+what, func(t *testing.T) {
			listener, err := net.Listen("tcp", ":"+strconv.Itoa(port))
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			refuses(t, l, "port "+strconv.Itoa(port)+", which "+what+" needs, is taken: stop what listens there, or choose another --name", "up")
		})
	}
	t.Run("a_second_up", func(t *testing.T) {
		pid := strconv.Itoa(daemonPID(t, "/run/clipper-"+clusterName+"/clipper.pid"))
		refuses(t, layout(t, clusterName), "cluster "+clusterName+" runs already (process "+pid+")", "up")
		refuses(t, layout(t, clusterName), "cluster "+clusterName+" runs already (process "+pid+")", "server")
	})
	t.Run("a_data_directory", func(t *testing.T) { badDataDirectory(t, l) })
	t.Run("a_user_who_is_not_root", func(t *testing.T) { notRoot(t) })
	t.Run("an_archive", badArchive)
}

func badDataDirectory(t *testing.T, l cluster.Layout) {
	put := func(t *testing.T, path, content string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name, want string
		make       func(t *testing.T)
	}{
		{"that_is_a_file", "is not a folder: move it away, or choose another --name", func(t *testing.T) { put(t, l.DataDir, "") }},
		{"that_holds_somebody_else's_files", "holds files that are not a Clipper cluster's", func(t *testing.T) { put(t, l.DataDir+"/thesis", "") }},
		{"of_another_cluster", `belongs to the cluster "other", not to "` + badName + `"`, func(t *testing.T) { put(t, l.DataDir+"/CLIPPER", "other\n") }},
		{"whose_mark_cannot_be_read", "cannot be read", func(t *testing.T) { put(t, l.DataDir+"/CLIPPER/x", "") }},
		{"whose_keys_cannot_be_read", "open the certificates in", func(t *testing.T) {
			put(t, l.DataDir+"/CLIPPER", l.Name+"\n")
			put(t, l.PKIDir()+"/ca.crt", "no certificate")
			put(t, l.PKIDir()+"/ca.key", "no key")
		}},
		{"whose_database_is_broken", "open the database: ", func(t *testing.T) {
			put(t, l.DataDir+"/CLIPPER", l.Name+"\n")
			put(t, l.EtcdDir()+"/etcd/member/snap/db", strings.Repeat("no database", 10000))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.make(t)
			defer func() {
				// What is foreign is no longer there: the purge takes away what the attempt made.
				if err := os.RemoveAll(l.DataDir); err != nil {
					t.Error(err)
				}
				if err := purge(badName); err != nil {
					t.Error(err)
				}
			}()
			out, err := programFor(badName, "up")
			if err == nil || !strings.Contains(out, test.want) || strings.Count(out, "clipper: ") != 1 {
				t.Errorf("it says %v\n%s\nnot %q", err, out, test.want)
			}
			if _, err := os.Stat(l.DataDir); err != nil {
				t.Error("what was there is gone")
			}
		})
	}
}

// notRoot runs a copy that everybody may execute as nobody.
func notRoot(t *testing.T) {
	dir, err := os.MkdirTemp("", "clipper-e2e")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	data, err := os.ReadFile(*clipper)
	if err := errors.Join(err, os.Chmod(dir, 0o755), os.WriteFile(dir+"/clipper", data, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"up", "down", "status", "server", "agent", "image ls", "token create"} {
		cmd := exec.CommandContext(t.Context(), dir+"/clipper", append(strings.Fields(args), "--name", clusterName)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if want := "clipper: \"clipper " + args + "\" needs root: try again with sudo\n"; err == nil || string(out) != want {
			t.Errorf("%s as nobody: %v, %q", args, err, out)
		}
	}
}

func badArchive(t *testing.T) {
	var whole bytes.Buffer
	w := tar.NewWriter(&whole)
	body := bytes.Repeat([]byte("x"), 100_000)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "layer", Mode: 0o644, Size: int64(len(body))}), func() error { _, err := w.Write(body); return err }(), w.Close()); err != nil {
		t.Fatal(err)
	}
	demo, err := os.ReadFile("../../internal/demo/image/demo.tar")
	if err != nil {
		t.Fatal(err)
	}
	before, err := program("image", "ls")
	if err != nil {
		t.Fatal(err, before)
	}
	for name, content := range map[string][]byte{
		"that_is_empty": {}, "that_is_text": []byte("this is no archive\n"), "without_a_manifest": whole.Bytes(), "that_is_cut_off": demo[:len(demo)/2],
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "image.tar")
			if err := os.WriteFile(path, content, 0o644); err != nil {
				t.Fatal(err)
			}
			refuses(t, layout(t, clusterName), "clipper: import "+path+": ", "image", "import", path)
		})
	}
	t.Run("that_is_not_there", func(t *testing.T) {
		refuses(t, layout(t, clusterName), "open /no/such/file: no such file or directory", "image", "import", "/no/such/file")
	})
	if after, err := program("image", "ls"); err != nil || after != before {
		t.Errorf("the images are now\n%s, %v\nand were\n%s", after, err, before)
	}
}

// TestClosedOutput starts a cluster whose steps nobody reads to the end.
func TestClosedOutput(t *testing.T) {
	l := layout(t, badName)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), *clipper, "up", "--nodes=2", "--name", badName)
	cmd.Stdout = w
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := io.ReadFull(r, make([]byte, 8)); err != nil {
		t.Error(err)
	}
	r.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("clipper up: %v\n%s", err, &stderr)
	}
	if out, err := programFor(badName, "status"); err != nil || strings.Count(out, " Ready ") != 2 {
		t.Errorf("clipper status: %v\n%s", err, out)
	}
	if err := purge(l.Name); err != nil {
		t.Error(err)
	}
}
