package container

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/runtime/cdi"
	"clipper.dev/clipper/internal/runtime/image"
	"clipper.dev/clipper/internal/runtime/sandbox"
)

// defaultPath is where programs are looked for in an image that does not say.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// openFiles is the limit of open files that a container gets, if the machine allows it.
const openFiles = 1048576

// Input is everything a container's specification follows from.
type Input struct {
	ID            string
	Config        *runtimeapi.ContainerConfig
	Sandbox       *runtimeapi.PodSandboxConfig
	Image         *image.Image
	Files         sandbox.Files
	Shm           string
	Tree          image.Tree        // the image's files
	ImageMounts   map[string]string // where images that are volumes lie on the host, by path in the container
	HostNetwork   bool
	UserNamespace bool
}

// Plan is what follows from an Input.
type Plan struct {
	Spec       *specs.Spec
	User       User
	Filter     Filter
	Join       []specs.LinuxNamespaceType // namespaces of the sandbox that the container enters
	JoinPIDOf  string                     // container whose process namespace it enters
	StopSignal string
}

// Make plans a container.
func Make(in *Input) (*Plan, error) {
	context := in.Config.GetLinux().GetSecurityContext()
	if context.GetPrivileged() && in.UserNamespace {
		return nil, errors.New("a privileged container cannot be in a user namespace")
	}
	user, err := resolveUser(context, in.Image.Config.Config.User, in.Tree)
	if err != nil {
		return nil, err
	}
	process, err := in.process(user)
	if err != nil {
		return nil, err
	}
	filter, err := seccompFilter(context, process.Capabilities.Bounding)
	if err != nil {
		return nil, err
	}
	signal, err := stopSignal(in.Config, in.Image.Config.Config.StopSignal)
	if err != nil {
		return nil, err
	}
	plan := &Plan{User: user, Filter: filter, StopSignal: signal}
	plan.Spec = &specs.Spec{
		Version: specs.Version,
		Process: process,
		Root:    &specs.Root{Readonly: context.GetReadonlyRootfs()},
		Linux:   &specs.Linux{CgroupsPath: sandbox.Cgroup(in.Sandbox, in.ID)},
	}
	mounts, propagation, err := in.mounts()
	if err != nil {
		return nil, err
	}
	plan.Spec.Mounts = mounts
	plan.Spec.Linux.RootfsPropagation = propagation
	if err := in.linux(plan); err != nil {
		return plan, err
	}
	devices, err := in.vendorDevices()
	if err != nil {
		return plan, err
	}
	if err := cdi.Inject(plan.Spec, devices, cdi.Dirs); err != nil {
		return plan, err
	}
	if isSet := func(line string) bool { return strings.HasPrefix(line, "HOME=") }; !slices.ContainsFunc(process.Env, isSet) {
		process.Env = append(process.Env, "HOME="+pick(user.Home, "/"))
	}
	return plan, nil
}

// vendorDevices are the names of the devices that come with a description of their own.
func (in *Input) vendorDevices() ([]string, error) {
	var names []string
	for _, d := range in.Config.GetCDIDevices() {
		names = append(names, d.GetName())
	}
	return cdi.Names(names, in.Config.GetAnnotations())
}

// process describes the container's first process.
func (in *Input) process(user User) (*specs.Process, error) {
	context := in.Config.GetLinux().GetSecurityContext()
	args, err := in.args()
	if err != nil {
		return nil, err
	}
	caps, err := capabilities(context)
	if err != nil {
		return nil, err
	}
	profile, err := appArmorProfile(context)
	if err != nil {
		return nil, err
	}
	cwd := pick(in.Config.GetWorkingDir(), pick(in.Image.Config.Config.WorkingDir, "/"))
	if !filepath.IsAbs(cwd) {
		cwd = "/" + cwd
	}
	score := int(in.Config.GetLinux().GetResources().GetOomScoreAdj())
	return &specs.Process{
		Args: args, Env: in.env(), Cwd: cwd, Terminal: in.Config.GetTty(),
		User:            specs.User{UID: user.UID, GID: user.GID, AdditionalGids: user.Groups},
		Capabilities:    caps,
		NoNewPrivileges: context.GetNoNewPrivs(),
		OOMScoreAdj:     &score,
		ApparmorProfile: profile,
		SelinuxLabel:    selinuxLabel(context.GetSelinuxOptions()),
		Rlimits:         rlimits(),
	}, nil
}

func (in *Input) args() ([]string, error) {
	command, args := in.Config.GetCommand(), in.Config.GetArgs()
	if len(command) == 0 {
		// Own arguments replace the image's; an own command replaces both.
		if len(args) == 0 {
			args = in.Image.Config.Config.Cmd
		}
		command = in.Image.Config.Config.Entrypoint
	}
	all := append(slices.Clone(command), args...)
	if len(all) == 0 {
		return nil, errors.New("no command specified")
	}
	return all, nil
}

// env merges the image's variables with the container's; a later one replaces an earlier one of the same name.
func (in *Input) env() []string {
	env := &environment{at: map[string]int{}}
	env.set("PATH", defaultPath)
	if in.Config.GetTty() {
		env.set("TERM", "xterm")
	}
	if hostname := in.Sandbox.GetHostname(); hostname != "" {
		env.set("HOSTNAME", hostname)
	} else if name, err := os.Hostname(); err == nil {
		env.set("HOSTNAME", name)
	}
	for _, line := range in.Image.Config.Config.Env {
		name, value, _ := strings.Cut(line, "=")
		env.set(name, value)
	}
	for _, variable := range in.Config.GetEnvs() {
		env.set(variable.GetKey(), string(variable.GetValue()))
	}
	return env.lines
}

type environment struct {
	lines []string
	at    map[string]int
}

func (e *environment) set(name, value string) {
	if i, ok := e.at[name]; ok {
		e.lines[i] = name + "=" + value
		return
	}
	e.at[name] = len(e.lines)
	e.lines = append(e.lines, name+"="+value)
}

// rlimits raises the limit of open files as far as this process may.
func rlimits() []specs.POSIXRlimit {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return nil
	}
	value := min(limit.Max, openFiles)
	return []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: value, Soft: value}}
}

// linux fills in namespaces, limits, devices and hidden paths.
func (in *Input) linux(plan *Plan) error {
	linux := plan.Spec.Linux
	context := in.Config.GetLinux().GetSecurityContext()
	linux.Resources = Resources(in.Config.GetLinux().GetResources())
	if err := addDevices(linux, in.Config); err != nil {
		return err
	}
	if !context.GetPrivileged() {
		linux.MaskedPaths = context.GetMaskedPaths()
		linux.ReadonlyPaths = context.GetReadonlyPaths()
	}
	return in.namespaces(plan)
}

// namespaces decides which namespaces are the container's own, the sandbox's or the node's.
func (in *Input) namespaces(plan *Plan) error {
	linux := plan.Spec.Linux
	options := in.Config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	pod := sandbox.Options(in.Sandbox)
	linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	// A privileged container sees all of the node's cgroups; in version 1 every one is in the node's namespace.
	if UnifiedCgroups() && !in.Config.GetLinux().GetSecurityContext().GetPrivileged() {
		linux.Namespaces = append(linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	if !in.HostNetwork {
		plan.Join = append(plan.Join, specs.NetworkNamespace, specs.UTSNamespace)
	}
	if pod.GetIpc() != runtimeapi.NamespaceMode_NODE {
		plan.Join = append(plan.Join, specs.IPCNamespace)
	}
	if in.UserNamespace {
		plan.Join = append(plan.Join, specs.UserNamespace)
	}
	switch mode := options.GetPid(); mode {
	case runtimeapi.NamespaceMode_CONTAINER:
		linux.Namespaces = append(linux.Namespaces, specs.LinuxNamespace{Type: specs.PIDNamespace})
	case runtimeapi.NamespaceMode_POD:
		if pod.GetPid() != runtimeapi.NamespaceMode_POD {
			linux.Namespaces = append(linux.Namespaces, specs.LinuxNamespace{Type: specs.PIDNamespace})
			break
		}
		plan.Join = append(plan.Join, specs.PIDNamespace)
	case runtimeapi.NamespaceMode_TARGET:
		if options.GetTargetId() == "" {
			return errors.New("process namespace of a target is asked for without a target")
		}
		plan.JoinPIDOf = options.GetTargetId()
	case runtimeapi.NamespaceMode_NODE:
	default:
		return fmt.Errorf("unknown mode %v of the process namespace", mode)
	}
	return nil
}

// ExecProcess describes a further process in a container.
func ExecProcess(spec *specs.Spec, args []string, tty bool) *specs.Process {
	process := *spec.Process
	process.Args = args
	process.Terminal = tty
	if tty && !slices.ContainsFunc(process.Env, func(line string) bool { return strings.HasPrefix(line, "TERM=") }) {
		process.Env = append(slices.Clone(process.Env), "TERM=xterm")
	}
	return &process
}
