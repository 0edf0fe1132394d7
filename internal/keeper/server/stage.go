package server

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"clipper.dev/clipper/internal/keeper/guard"
	"clipper.dev/clipper/internal/keeper/wire"
)

// stageFD is the descriptor that connects a container's process with the keeper until its program is executed.
const stageFD = 3

// stageConfig tells a new process in a container what to do before libcontainer's own part.
type stageConfig struct {
	Rootfs       string        // where to mount the overlay
	Overlay      *wire.Overlay // nil: nothing to mount
	VolumeDir    string        // where to mount the volumes
	Volumes      []wire.Volume
	Seccomp      []byte // the filter; empty for none
	SeccompFlags uint32
	Gate         bool // install the filter when the keeper says so, not at once
}

// stage is the keeper's side of that connection.
type stage struct {
	ours, theirs *os.File
	guarded      bool
}

// newStage prepares the connection; the configuration waits in its buffer for the new process.
func newStage(config *stageConfig) (*stage, error) {
	data, err := json.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("encode stage: %w", err)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("create stage socket: %w", err)
	}
	st := &stage{
		ours: os.NewFile(uintptr(fds[0]), "stage"), theirs: os.NewFile(uintptr(fds[1]), "stage"),
		guarded: config.Gate && len(config.Seccomp) > 0,
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(data)), uint32(len(data)))
	if _, err := st.ours.Write(append(frame, data...)); err != nil {
		st.close()
		return nil, fmt.Errorf("write stage: %w", err)
	}
	return st, nil
}

func (st *stage) close() {
	st.ours.Close()
	st.theirs.Close()
}

// arm has the guard install the filter; afterwards nothing but the program's execution is left to do.
func (st *stage) arm() error {
	if !st.guarded {
		return nil
	}
	if st.theirs != nil {
		st.theirs.Close()
	}
	if _, err := st.ours.Write([]byte{1}); err != nil {
		return fmt.Errorf("install the seccomp filter: %w", err)
	}
	var verdict [4]byte
	if _, err := io.ReadFull(st.ours, verdict[:]); err != nil {
		return errors.New("install the seccomp filter: the container's process gave no answer")
	}
	if errno := binary.NativeEndian.Uint32(verdict[:]); errno != 0 {
		return fmt.Errorf("install the seccomp filter: %w", syscall.Errno(errno))
	}
	return nil
}

// EnterStage is what a new process in a container does first. It runs in the container's namespaces,
// before libcontainer sets up the rest.
func EnterStage() error {
	unix.CloseOnExec(stageFD)
	var head [4]byte
	if err := readFull(stageFD, head[:]); err != nil {
		return fmt.Errorf("read stage: %w", err)
	}
	data := make([]byte, binary.BigEndian.Uint32(head[:]))
	if err := readFull(stageFD, data); err != nil {
		return fmt.Errorf("read stage: %w", err)
	}
	var config stageConfig
	if err := json.Unmarshal(data, &config); err != nil {
		return fmt.Errorf("decode stage: %w", err)
	}
	if config.Overlay != nil {
		if err := mountOverlay(config.Overlay, config.Rootfs); err != nil {
			return err
		}
	}
	for _, volume := range config.Volumes {
		if err := mountVolume(&volume, config.VolumeDir); err != nil {
			return fmt.Errorf("mount image volume %s: %w", volume.Name, err)
		}
	}
	if len(config.Seccomp) == 0 {
		return nil
	}
	if config.Gate {
		return guard.Start(stageFD, config.Seccomp, config.SeccompFlags)
	}
	return guard.Install(config.Seccomp, config.SeccompFlags)
}

func readFull(fd int, buffer []byte) error {
	for len(buffer) > 0 {
		n, err := unix.Read(fd, buffer)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		buffer = buffer[n:]
	}
	return nil
}

// mountOverlay mounts a root file system. Layers are named relative to their common directory, so that
// many of them fit into the page that the kernel accepts.
func mountOverlay(o *wire.Overlay, target string) error {
	before, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("read the working directory: %w", err)
	}
	if err := os.Chdir(o.Base); err != nil {
		return fmt.Errorf("enter the layers: %w", err)
	}
	options := "lowerdir=" + strings.Join(o.Lower, ":") + ",upperdir=" + o.Upper + ",workdir=" + o.Work
	if len(options) >= os.Getpagesize() {
		return fmt.Errorf("mount the root file system: %d layers are too many", len(o.Lower))
	}
	// What a container writes to its root does not outlive it: the kernel need not sync it.
	err = unix.Mount("overlay", target, "overlay", 0, options+",volatile")
	if errors.Is(err, unix.EINVAL) {
		err = unix.Mount("overlay", target, "overlay", 0, options)
	}
	if err != nil {
		return fmt.Errorf("mount the root file system: %w", err)
	}
	return os.Chdir(before)
}

// mountVolume mounts an image to be read, in the container's own mount namespace.
func mountVolume(v *wire.Volume, dir string) error {
	target := filepath.Join(dir, v.Name)
	before, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("read the working directory: %w", err)
	}
	if err := os.Chdir(v.Base); err != nil {
		return fmt.Errorf("enter the layers: %w", err)
	}
	lower := v.Lower
	if len(lower) == 1 {
		lower = append(lower, "../empty") // an overlay without an upper layer wants two lower ones
	}
	options := "lowerdir=" + strings.Join(lower, ":")
	if err := unix.Mount("overlay", target, "overlay", unix.MS_RDONLY|unix.MS_NODEV|unix.MS_NOSUID, options); err != nil {
		return fmt.Errorf("mount the image: %w", err)
	}
	if err := os.Chdir(before); err != nil {
		return err
	}
	return showPart(target, v.SubPath)
}

// showPart makes a mounted image show only a folder of itself; an empty path shows it all.
func showPart(target, path string) error {
	if path == "" {
		return nil
	}
	root, err := unix.Open(target, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the image: %w", err)
	}
	defer unix.Close(root)
	// A link inside the image leads to a place inside the image.
	part, err := unix.Openat2(root, path, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return fmt.Errorf("open %q in the image: %w", path, err)
	}
	defer unix.Close(part)
	return unix.Mount(fmt.Sprintf("/proc/self/fd/%d", part), target, "", unix.MS_BIND, "")
}
