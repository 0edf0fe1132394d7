package network

import (
	"os"
	"path/filepath"
	"testing"
)

func TestLeasesThatACrashCutShortAreForgotten(t *testing.T) {
	dir := leaseDir(t.TempDir())
	if err := dir.save(&lease{SandboxID: "whole"}); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"empty.json": "", "zeros.json": "\x00\x00\x00", ".whole.json.new": `{"Sand`} {
		if err := os.WriteFile(filepath.Join(string(dir), name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	leases, err := dir.load()
	if err != nil || len(leases) != 1 || leases["whole"] == nil {
		t.Errorf("leases = %v, %v", leases, err)
	}
	if left, err := os.ReadDir(string(dir)); err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}
