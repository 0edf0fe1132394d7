package volumes

import (
	"os"
	"testing"
)

func TestWhatPodsMountReachesTheNode(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	t.Cleanup(func() {
		if err := Purge(dir); err != nil {
			t.Error(err)
		}
	})
	for range 2 {
		if err := makeShared(dir); err != nil {
			t.Fatal(err)
		}
		if shared, err := isShared(dir + "/below"); err != nil || !shared {
			t.Fatalf("shared: %v, %v", shared, err)
		}
	}
}
