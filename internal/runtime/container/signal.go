package container

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// rtMin and rtMax bound the signals that are free for programs, as the C library counts them.
const (
	rtMin = 34
	rtMax = 64
)

// ParseSignal reads a signal by number or by name, with or without SIG, such as RTMIN+3.
func ParseSignal(name string) (syscall.Signal, error) {
	if number, err := strconv.Atoi(name); err == nil {
		if number < 1 || number > rtMax {
			return 0, fmt.Errorf("invalid signal %q", name)
		}
		return syscall.Signal(number), nil
	}
	upper := strings.TrimPrefix(strings.ToUpper(name), "SIG")
	for prefix, base := range map[string]int{"RTMIN": rtMin, "RTMAX": rtMax} {
		rest, ok := strings.CutPrefix(upper, prefix)
		if !ok {
			continue
		}
		offset := 0
		if rest != "" {
			var err error
			if offset, err = strconv.Atoi(rest); err != nil {
				return 0, fmt.Errorf("invalid signal %q", name)
			}
		}
		if number := base + offset; number >= rtMin && number <= rtMax {
			return syscall.Signal(number), nil
		}
		return 0, fmt.Errorf("invalid signal %q", name)
	}
	if signal := unix.SignalNum("SIG" + upper); signal != 0 {
		return signal, nil
	}
	return 0, fmt.Errorf("invalid signal %q", name)
}

// stopSignal chooses the signal that asks a container to end: the pod's, the image's or SIGTERM.
func stopSignal(config *runtimeapi.ContainerConfig, image string) (string, error) {
	name := "SIGTERM"
	if image != "" {
		name = image
	}
	if wanted := config.GetStopSignal(); wanted != runtimeapi.Signal_RUNTIME_DEFAULT {
		name = strings.NewReplacer("PLUS", "+", "MINUS", "-").Replace(wanted.String())
	}
	if _, err := ParseSignal(name); err != nil {
		return "", err
	}
	return name, nil
}

// spelledSigns writes names of real-time signals as the interface does.
var spelledSigns = strings.NewReplacer("+", "PLUS", "-", "MINUS")

// signalEnum gives a signal's value in the interface.
func signalEnum(name string) runtimeapi.Signal {
	if number, err := strconv.Atoi(name); err == nil {
		name = unix.SignalName(syscall.Signal(number))
	}
	name = strings.ToUpper(name)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	name = spelledSigns.Replace(name)
	return runtimeapi.Signal(runtimeapi.Signal_value[name])
}
