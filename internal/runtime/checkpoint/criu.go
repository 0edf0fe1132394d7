package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// minimumVersion is the oldest CRIU that containers are given to, as its own number: 3.16.
const minimumVersion = 31600

// dumpLog is where CRIU tells what it does.
const dumpLog = "dump.log"

// Available tells why checkpoints can't be made on this machine; nil if they can.
func Available(ctx context.Context) error {
	path, err := exec.LookPath("criu")
	if err != nil {
		return errors.New("criu binary not found in shim path or system PATH")
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return fmt.Errorf("failed to retrieve criu version: %w", err)
	}
	version, err := parseVersion(string(out))
	if err != nil {
		return fmt.Errorf("failed to retrieve criu version: %w", err)
	}
	if version < minimumVersion {
		return fmt.Errorf("checkpoint/restore requires at least CRIU %d, current version is %d", minimumVersion, version)
	}
	return nil
}

var versionLine = regexp.MustCompile(`(?m)^Version: (\d+)\.(\d+)(?:\.(\d+))?`)

// parseVersion makes one number of a version: 3.17.1 is 31701.
func parseVersion(text string) (int, error) {
	match := versionLine.FindStringSubmatch(text)
	if match == nil {
		return 0, fmt.Errorf("unexpected output %q", text)
	}
	version := 0
	for _, part := range match[1:] {
		n, _ := strconv.Atoi(part) // digits, or nothing
		version = 100*version + n
	}
	return version, nil
}

// dump has CRIU write the images of a container's processes into a folder's checkpoint folder, and its log into the folder.
func (c *Container) dump(dir string) error {
	images := filepath.Join(dir, imagesDir)
	if err := os.Mkdir(images, 0o700); err != nil {
		return fmt.Errorf("create the images' folder: %w", err)
	}
	args := []string{
		"dump", "--tree", strconv.Itoa(c.PID), "--images-dir", images, "--work-dir", dir, "--log-file", dumpLog, "-v4", "--leave-running",
		"--manage-cgroups=soft", "--tcp-established", "--ext-unix-sk", "--file-locks",
	}
	if c.Terminal {
		args = append(args, "--shell-job")
	}
	if _, err := os.Stat(c.Freezer); c.Freezer != "" && err == nil {
		args = append(args, "--freeze-cgroup", c.Freezer)
	}
	external, err := c.external()
	if err != nil {
		return err
	}
	for _, resource := range external {
		args = append(args, "--external", resource)
	}
	if err := c.writeDescriptors(images); err != nil {
		return err
	}
	cmd := exec.Command("criu", args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("criu failed: %w%s", err, complaints(out, filepath.Join(dir, dumpLog)))
	}
	return nil
}

// complaintLines is how many of CRIU's own error messages an error of ours tells.
const complaintLines = 5

// complaints are the errors in CRIU's output and log.
func complaints(out []byte, log string) string {
	text, _ := os.ReadFile(log) // it may have failed before it had one
	var lines []string
	for line := range bytes.Lines(append(out, text...)) {
		if bytes.Contains(line, []byte("Error")) && len(lines) < complaintLines {
			lines = append(lines, string(bytes.TrimSpace(line)))
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return ": " + strings.Join(lines, "; ")
}
