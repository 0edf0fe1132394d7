package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// progressFD is where a daemon that was started by "up" reports its steps.
const progressFD = 3

// Step is one step of a start, as a daemon reports it.
type Step struct {
	Text  string        `json:"text"`
	After time.Duration `json:"after"` // since the daemon began
	Error string        `json:"error,omitempty"`
	Ready bool          `json:"ready,omitempty"` // the last one
}

// Progress reports the steps of a start. Its zero value reports nothing.
type Progress struct {
	began time.Time
	out   io.WriteCloser
}

// InheritedProgress returns the progress that this process' parent asked for, if it did.
func InheritedProgress() *Progress {
	p := &Progress{began: time.Now()}
	if os.Getenv("CLIPPER_PROGRESS") != "" {
		p.out = os.NewFile(progressFD, "progress")
		unix.CloseOnExec(progressFD)
		os.Unsetenv("CLIPPER_PROGRESS")
	}
	return p
}

// Step reports that something is done.
func (p *Progress) Step(format string, args ...any) { p.send(Step{Text: fmt.Sprintf(format, args...)}) }

// Ready reports the end of the start.
func (p *Progress) Ready() { p.send(Step{Ready: true}); p.close() }

// Fail reports why the start failed.
func (p *Progress) Fail(err error) { p.send(Step{Error: err.Error()}); p.close() }

// send ignores errors: whoever asked may have gone away, and the daemon goes on without.
func (p *Progress) send(s Step) {
	if p.out == nil {
		return
	}
	s.After = time.Since(p.began)
	data, err := json.Marshal(s)
	if err == nil {
		p.out.Write(append(data, '\n'))
	}
}

func (p *Progress) close() {
	if p.out != nil {
		p.out.Close()
		p.out = nil
	}
}

// daemon describes a process to start in the background.
type daemon struct {
	args    []string
	logFile string
	netns   string // the name of a network namespace; "" is this one
}

// start runs this program in the background, and calls report for each of its steps until it's ready.
// It fails with what the daemon says, or with the end of its log if it says nothing.
func (d daemon) start(ctx context.Context, report func(Step)) error {
	if err := os.MkdirAll(filepath.Dir(d.logFile), 0o755); err != nil {
		return err
	}
	log, err := os.OpenFile(d.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe", d.args...)
	cmd.Args[0] = "clipper"
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "CLIPPER_PROGRESS=1")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = inNetNS(d.netns, cmd.Start)
	w.Close()
	if err != nil {
		return fmt.Errorf("start %s: %w", strings.Join(d.args, " "), err)
	}
	// Who asked for the start may lose patience: nothing half-started stays behind.
	defer context.AfterFunc(ctx, func() { cmd.Process.Kill() })()
	ready, err := follow(r, report)
	if ready {
		return nil
	}
	cmd.Wait() // nothing of it is left when its failure is told
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted before the cluster was ready; the log is %s", d.logFile)
	}
	return fmt.Errorf("the daemon ended while it started (%s); the end of its log, %s:\n%s", cmd.ProcessState, d.logFile, lastLines(d.logFile, 5))
}

func follow(r io.Reader, report func(Step)) (ready bool, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var s Step
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			return false, fmt.Errorf("read the daemon's progress: %w", err)
		}
		if s.Error != "" {
			return false, errors.New(s.Error)
		}
		if s.Ready {
			return true, nil
		}
		report(s)
	}
	return false, lines.Err()
}

// inNetNS calls fn on a thread that is in the named network namespace, so that a process started there is born in it.
func inNetNS(name string, fn func() error) error {
	if name == "" {
		return fn()
	}
	target, err := netns.GetFromName(name)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", name, err)
	}
	defer target.Close()
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and with it its namespace.
		runtime.LockOSThread()
		if err := netns.Set(target); err != nil {
			done <- fmt.Errorf("enter network namespace %s: %w", name, err)
			return
		}
		done <- fn()
	}()
	return <-done
}

// A lock says that a daemon runs: it is held for as long as the process lives, whatever way it ends.
type lock struct {
	file *os.File
}

// lockPIDFile takes the lock and writes this process' ID, or fails with the process ID of who holds it.
func lockPIDFile(path string) (*lock, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, errRunning
	}
	if err = f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return &lock{f}, nil
}

var errRunning = errors.New("it is running already")

// runningPID returns the process ID of the daemon that holds the lock, 0 if none does.
func runningPID(path string) int {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil {
		return 0
	}
	data, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	return pid
}

// stop ends a daemon and waits until it's gone; one that does not go by itself is killed.
func stop(pidFile string, patience time.Duration) error {
	pid := runningPID(pidFile)
	if pid == 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("signal process %d: %w", pid, err)
		}
		if waitExit(fd, patience) {
			return nil
		}
	}
	return fmt.Errorf("process %d does not end", pid)
}

func waitExit(pidfd int, patience time.Duration) bool {
	end := time.Now().Add(patience)
	for {
		left := time.Until(end).Milliseconds()
		if left <= 0 {
			return false
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(left))
		if n > 0 {
			return true
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false
		}
	}
}

func lastLines(path string, n int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
