package server

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// LaunchOptions are the keeper's command line.
type LaunchOptions struct {
	StateDir, RunDir, Cgroup string
	Foreground               bool
}

// readyFD is the descriptor on which a keeper tells its launcher that it serves, or why it cannot.
const readyFD = 3

// Launch starts a keeper in a session of its own and returns when it serves. In the foreground it is
// the keeper itself.
func Launch(options LaunchOptions) error {
	if options.Foreground {
		return serve(options)
	}
	if err := os.MkdirAll(options.StateDir, 0o700); err != nil {
		return fmt.Errorf("create the state folder: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(options.StateDir, "keeper.log"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open the keeper's log: %w", err)
	}
	defer log.Close()
	binary, err := SealedCopy("/proc/self/exe")
	if err != nil {
		return err
	}
	defer binary.Close()
	ready, theirs, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("create the ready pipe: %w", err)
	}
	defer ready.Close()
	cmd := exec.Command(fmt.Sprintf("/proc/self/fd/%d", 4), "-foreground",
		"-state", options.StateDir, "-run", options.RunDir, "-cgroup", options.Cgroup)
	cmd.Args[0] = "clipper-keeper"
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{theirs, binary} // numbers 3 and 4
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return fmt.Errorf("start the keeper: %w", err)
	}
	verdict, err := bufio.NewReader(ready).ReadString('\n')
	if err != nil {
		return errors.Join(errors.New("the keeper ended at once; see "+log.Name()), cmd.Wait())
	}
	if verdict = strings.TrimSpace(verdict); verdict != "ready" {
		return errors.Join(errors.New(verdict), cmd.Wait())
	}
	return cmd.Process.Release()
}

func serve(options LaunchOptions) error {
	// Started from memory, the process would go by the number of a descriptor.
	if err := os.WriteFile("/proc/self/comm", []byte("clipper-keeper"), 0); err != nil {
		fmt.Fprintln(os.Stderr, "name the process:", err)
	}
	logrus.SetOutput(os.Stderr)
	logrus.SetLevel(logrus.WarnLevel)
	unix.CloseOnExec(4)
	var ready io.WriteCloser
	if os.Getenv(ResumeEnv) == "" {
		unix.CloseOnExec(readyFD)
		ready = os.NewFile(readyFD, "ready")
	}
	keeper, err := open(options)
	if ready != nil {
		message := "ready"
		if err != nil {
			message = strings.ReplaceAll(err.Error(), "\n", "; ")
		}
		_, _ = fmt.Fprintln(ready, message)
		ready.Close()
	}
	if err != nil {
		return err
	}
	// The keeper ends when it is told to on its socket, not when a terminal or a service manager says
	// so. The signals are received and dropped; ignored ones would be ignored in containers too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	return keeper.Serve(context.Background())
}

func open(options LaunchOptions) (*Server, error) {
	if err := os.MkdirAll(options.RunDir, 0o711); err != nil {
		return nil, fmt.Errorf("create the run folder: %w", err)
	}
	if err := lock(filepath.Join(options.RunDir, "keeper.lock")); err != nil {
		return nil, err
	}
	if err := moveSelf(options.Cgroup); err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	// The keeper is the last one that should go when memory runs out; where that may not be set, it is not.
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-999"), 0); err != nil {
		log.Info("keeping the inherited OOM score", "error", err)
	}
	build, err := buildID()
	if err != nil {
		return nil, err
	}
	return New(Config{StateDir: options.StateDir, RunDir: options.RunDir, Build: build, Logger: log})
}

// lock makes this keeper the only one for its folder, until the process ends.
func lock(path string) error {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		unix.Close(fd)
		return fmt.Errorf("another keeper serves this folder (%s): %w", path, err)
	}
	if err := unix.Ftruncate(fd, 0); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = unix.Write(fd, []byte(strconv.Itoa(os.Getpid())))
	return err
}

// buildID identifies this program by its content.
func buildID() (string, error) {
	file, err := os.Open("/proc/self/exe")
	if err != nil {
		return "", fmt.Errorf("open this program: %w", err)
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", fmt.Errorf("read this program: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
