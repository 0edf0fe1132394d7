package keeper

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"clipper.dev/clipper/internal/keeper/wire"
)

// Options say which keeper is wanted.
type Options struct {
	Path     string // of the keeper's executable
	StateDir string // the keeper's folder for what must survive a restart of the machine
	RunDir   string // the keeper's folder for what need not
	Cgroup   string // where the keeper lives, in every hierarchy
}

// startTimeout bounds how long a keeper may take until it serves.
const startTimeout = 20 * time.Second

// Start connects to the keeper of the run folder. Where none answers it starts one; one that is
// another build hands over to the one at Path.
func Start(ctx context.Context, options Options) (*Client, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	client := NewClient(options.RunDir)
	hello, err := client.Hello(ctx)
	if err != nil {
		if err := launch(ctx, options); err != nil {
			return nil, err
		}
		if hello, err = client.Hello(ctx); err != nil {
			return nil, err
		}
	}
	build, err := fileSum(options.Path)
	if err != nil {
		return nil, err
	}
	if hello.Build == build {
		return client, nil
	}
	if err := replace(ctx, client, options, build); err != nil {
		return nil, err
	}
	return client, nil
}

// usualTimerSlack is the kernel's.
const usualTimerSlack = 50 * time.Microsecond

func launch(ctx context.Context, options Options) error {
	cmd := exec.CommandContext(ctx, options.Path,
		"-state", options.StateDir, "-run", options.RunDir, "-cgroup", filepath.Join("/", options.Cgroup))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	// What the keeper starts shall have the usual timers, whatever those of this process are.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(usualTimerSlack.Nanoseconds()), 0, 0, 0); err != nil {
		return fmt.Errorf("set the timer slack: %w", err)
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("start the keeper: %s: %w", strings.TrimSpace(stderr.String()), err)
	}
	return nil
}

// replace has a keeper of another build become the wanted one, and waits until that one answers.
func replace(ctx context.Context, client *Client, options Options, build string) error {
	if err := client.HandOver(ctx, options.Path); err != nil {
		return fmt.Errorf("replace the keeper: %w", err)
	}
	retry := time.NewTicker(5 * time.Millisecond)
	defer retry.Stop()
	for {
		// While the keeper changes, its socket refuses or hangs up.
		hello, err := client.Hello(ctx)
		if err == nil && hello.Build == build {
			return nil
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return fmt.Errorf("replace the keeper: %w", errors.Join(ctx.Err(), err))
		}
	}
}

func fileSum(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("open the keeper's executable: %w", err)
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", fmt.Errorf("read the keeper's executable: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// IsNotFound tells whether the keeper does not know what was asked about.
func IsNotFound(err error) bool { return err != nil && wire.CodeOf(err) == wire.CodeNotFound }

// IsNotRunning tells whether the container had ended before the call.
func IsNotRunning(err error) bool { return err != nil && wire.CodeOf(err) == wire.CodeNotRunning }

// VolumePath is where a container finds an image that it mounts, in its mount namespace before its root is in place.
func VolumePath(runDir, container, volume string) string {
	return filepath.Join(runDir, "mnt", "volumes", container, volume)
}

// End ends the keeper, whatever it still keeps, and waits until it is gone.
func (c *Client) End(ctx context.Context) error {
	hello, err := c.Hello(ctx)
	if err != nil {
		return err
	}
	fd, err := unix.PidfdOpen(hello.PID, 0)
	if err != nil {
		return fmt.Errorf("find the keeper: %w", err)
	}
	defer unix.Close(fd)
	if err := c.Shutdown(ctx, true); err != nil {
		return fmt.Errorf("end the keeper: %w", err)
	}
	for ctx.Err() == nil {
		gone := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(gone, 100); n > 0 {
			return nil
		} else if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for the keeper's end: %w", err)
		}
	}
	return ctx.Err()
}
