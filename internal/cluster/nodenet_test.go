package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/vishvananda/netns"
)

func TestOnlyTheNameOfADeadNetworkNamespaceIsRemoved(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	live, dead := fmt.Sprintf("clipper-test-live-%d", os.Getpid()), fmt.Sprintf("clipper-test-dead-%d", os.Getpid())
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is in another namespace now
		ns, err := netns.NewNamed(live)
		if err == nil {
			err = ns.Close()
		}
		made <- err
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	defer netns.DeleteNamed(live)
	if err := os.WriteFile(filepath.Join(netnsDir, dead), nil, 0o444); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{live, dead, dead} {
		if err := dropDeadNetNS(name); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(netnsDir, dead)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the dead one: %v", err)
	}
	if ns, err := netns.GetFromName(live); err != nil {
		t.Errorf("the live one: %v", err)
	} else {
		ns.Close()
	}
}
