package runtime

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestCheckpointNeedsCRIU(t *testing.T) {
	n := newNode(t)
	t.Setenv("PATH", t.TempDir())
	_, err := n.CheckpointContainer(context.Background(), &runtimeapi.CheckpointContainerRequest{ContainerId: "x", Location: "/nowhere"})
	if want := `failed to checkpoint container "x": criu binary not found in shim path or system PATH`; status.Convert(err).Message() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

var tallyLine = regexp.MustCompile(`tally is (\d{8});`)

// lastTally is the highest number in a text.
func lastTally(text string) int {
	last := -1
	for _, match := range tallyLine.FindAllStringSubmatch(text, -1) {
		n, _ := strconv.Atoi(match[1]) // digits
		last = max(last, n)
	}
	return last
}

// TestCheckpoint checkpoints a container that counts, finds the number in the archive, and sees the container count on. CRIU doesn't work on every kernel.
func TestCheckpoint(t *testing.T) {
	if out, err := exec.Command("criu", "check").CombinedOutput(); err != nil {
		t.Skipf("CRIU doesn't work here: %v: %s", err, out)
	}
	n := newNode(t)
	p := n.runPod()
	id := p.run("tally")
	n.eventually("it counts", func() bool { return lastTally(n.log(id)) > 10 })
	before := lastTally(n.log(id))
	location := filepath.Join(t.TempDir(), "checkpoint.tar")
	request := &runtimeapi.CheckpointContainerRequest{ContainerId: id, Location: location}
	if _, err := n.CheckpointContainer(context.Background(), request); err != nil {
		t.Fatal(err)
	}
	after := lastTally(n.log(id))
	n.eventually("it counts on", func() bool { return lastTally(n.log(id)) > after })
	if state := n.status(id).State; state != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("the container is %v", state)
	}
	content := unpack(t, location)
	for _, name := range []string{"config.dump", "spec.dump", "status.dump", "status", "rootfs-diff.tar", "container.log", "dump.log", "stats-dump",
		"checkpoint/inventory.img", "checkpoint/pstree.img", "checkpoint/descriptors.json"} {
		if len(content[name]) == 0 {
			t.Errorf("%s is missing or empty", name)
		}
	}
	var config struct{ ID, Name, RootfsImageRef string }
	if err := json.Unmarshal(content["config.dump"], &config); err != nil || config.ID != id || config.Name != "c1" || config.RootfsImageRef == "" {
		t.Errorf("config.dump is %s, %v", content["config.dump"], err)
	}
	if changed := unpackFrom(t, strings.NewReader(string(content["rootfs-diff.tar"]))); changed["tally"] == nil {
		t.Errorf("what the container wrote is not in its layer: %v", changed)
	}
	kept := -1
	for name, data := range content {
		if strings.HasPrefix(name, "checkpoint/pages-") {
			kept = max(kept, lastTally(string(data)))
		}
	}
	if kept < before {
		t.Errorf("the number in memory is %d; before the checkpoint it was %d", kept, before)
	}
	entries, err := os.ReadDir(filepath.Join(n.config.StateDir, "containers", id))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == "checkpoint" {
			t.Error("the checkpoint's folder is left")
		}
	}
	if _, err := n.StopContainer(context.Background(), &runtimeapi.StopContainerRequest{ContainerId: id}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.CheckpointContainer(context.Background(), request); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a container that has ended: got %v", err)
	}
}

func unpack(t *testing.T, path string) map[string][]byte {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	return unpackFrom(t, file)
}

func unpackFrom(t *testing.T, from io.Reader) map[string][]byte {
	t.Helper()
	content := map[string][]byte{}
	for archive := tar.NewReader(from); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return content
		}
		if err != nil {
			t.Fatal(err)
		}
		if content[header.Name], err = io.ReadAll(archive); err != nil {
			t.Fatal(err)
		}
	}
}
