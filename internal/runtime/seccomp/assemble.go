package seccomp

import (
	"encoding/binary"
	"fmt"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Offsets into the kernel's struct seccomp_data.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
)

// Assemble makes the kernel's instructions of a profile. System calls that an architecture does not
// have are left out, as upstream's tools do.
func Assemble(profile *specs.LinuxSeccomp) ([]byte, error) {
	base, err := action(profile.DefaultAction, profile.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	names := slices.Clone(profile.Architectures)
	own, err := native()
	if err != nil {
		return nil, err
	}
	if !slices.Contains(names, own) {
		names = append(names, own)
	}
	p := &program{}
	for _, name := range names {
		known, ok := arches[name]
		if !ok {
			continue // an architecture that this machine's kernel does not run
		}
		if err := p.arch(known, profile, base); err != nil {
			return nil, err
		}
	}
	p.ret(unix.SECCOMP_RET_KILL_PROCESS) // a call by another architecture's numbers
	return p.bytes()
}

// Flags translates a profile's flags.
func Flags(profile *specs.LinuxSeccomp) (uint32, error) {
	var flags uint32
	for _, flag := range profile.Flags {
		switch flag {
		case specs.LinuxSeccompFlagLog:
			flags |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			flags |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case "SECCOMP_FILTER_FLAG_TSYNC": // always on
		default:
			return 0, fmt.Errorf("seccomp flag %q is not supported", flag)
		}
	}
	return flags, nil
}

func action(name specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	number := uint32(unix.EPERM)
	if errno != nil {
		number = uint32(*errno)
	}
	switch name {
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, nil
	case specs.ActErrno:
		return unix.SECCOMP_RET_ERRNO | number&unix.SECCOMP_RET_DATA, nil
	case specs.ActTrace:
		return unix.SECCOMP_RET_TRACE | number&unix.SECCOMP_RET_DATA, nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	}
	return 0, fmt.Errorf("seccomp action %q is not supported", name)
}

// rule is what happens to a call if its arguments fulfil the conditions.
type rule struct {
	action uint32
	args   []specs.LinuxSeccompArg
}

// program collects instructions.
type program struct {
	code []unix.SockFilter
}

func (p *program) add(code uint16, k uint32) int {
	p.code = append(p.code, unix.SockFilter{Code: code, K: k})
	return len(p.code) - 1
}

func (p *program) load(offset uint32) { p.add(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offset) }
func (p *program) ret(action uint32)  { p.add(unix.BPF_RET|unix.BPF_K, action) }

// skip is a jump of any length, whose target comes later.
func (p *program) skip() int { return p.add(unix.BPF_JMP|unix.BPF_JA, 0) }

// land makes an earlier skip end here.
func (p *program) land(at int) { p.code[at].K = uint32(len(p.code) - at - 1) }

// unless continues if the comparison holds, else jumps to where its result lands.
func (p *program) unless(comparison uint16, k uint32) int {
	p.code = append(p.code, unix.SockFilter{Code: unix.BPF_JMP | comparison | unix.BPF_K, Jt: 1, K: k})
	return p.skip()
}

// arch adds the section of one architecture.
func (p *program) arch(a arch, profile *specs.LinuxSeccomp, base uint32) error {
	rules, err := rulesOf(a, profile)
	if err != nil {
		return err
	}
	p.load(offsetArch)
	other := p.unless(unix.BPF_JEQ, a.audit)
	p.load(offsetNumber)
	numbers := make([]uint32, 0, len(rules))
	for number := range rules {
		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	p.search(ranges(numbers, rules), base)
	p.land(other)
	return nil
}

func rulesOf(a arch, profile *specs.LinuxSeccomp) (map[uint32][]rule, error) {
	rules := map[uint32][]rule{}
	for _, entry := range profile.Syscalls {
		act, err := action(entry.Action, entry.ErrnoRet)
		if err != nil {
			return nil, err
		}
		for _, name := range entry.Names {
			if number, ok := a.syscalls[name]; ok {
				rules[number] = append(rules[number], rule{act, entry.Args})
			}
		}
	}
	return rules, nil
}

// span is a range of numbers that fare alike.
type span struct {
	first, last uint32
	rules       []rule
}

func ranges(numbers []uint32, rules map[uint32][]rule) []span {
	var spans []span
	for _, number := range numbers {
		own := rules[number]
		if n := len(spans); n > 0 && spans[n-1].last+1 == number && alike(spans[n-1].rules, own) {
			spans[n-1].last = number
			continue
		}
		spans = append(spans, span{number, number, own})
	}
	return spans
}

// alike tells whether two calls without conditions share their fate.
func alike(a, b []rule) bool {
	return len(a[0].args) == 0 && len(b[0].args) == 0 && a[0].action == b[0].action
}

// search finds the span of the number in the accumulator by halving.
func (p *program) search(spans []span, base uint32) {
	if len(spans) == 0 {
		p.ret(base)
		return
	}
	if len(spans) == 1 {
		p.span(spans[0], base)
		return
	}
	middle := len(spans) / 2
	lower := p.unless(unix.BPF_JGE, spans[middle].first)
	p.search(spans[middle:], base)
	p.land(lower)
	p.search(spans[:middle], base)
}

func (p *program) span(s span, base uint32) {
	below := p.unless(unix.BPF_JGE, s.first)
	p.code = append(p.code, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K, Jf: 1, K: s.last})
	above := p.skip()
	decided := false
	for _, r := range s.rules {
		p.rule(r)
		if len(r.args) == 0 {
			decided = true
			break
		}
	}
	if !decided {
		p.ret(base)
	}
	p.land(below)
	p.land(above)
	p.ret(base)
}

// rule returns the action if all conditions hold, else falls through.
func (p *program) rule(r rule) {
	var misses []int
	for _, arg := range r.args {
		misses = append(misses, p.condition(arg)...)
	}
	p.ret(r.action)
	for _, miss := range misses {
		p.land(miss)
	}
}

// condition compares a 64-bit argument, one half at a time, and returns the jumps of a miss.
func (p *program) condition(arg specs.LinuxSeccompArg) []int {
	low := uint32(offsetArgs + 8*arg.Index)
	high := low + 4 // the machines that are served are little-endian
	valueLow, valueHigh := uint32(arg.Value), uint32(arg.Value>>32)
	switch arg.Op {
	case specs.OpEqualTo:
		p.load(high)
		missHigh := p.unless(unix.BPF_JEQ, valueHigh)
		p.load(low)
		return []int{missHigh, p.unless(unix.BPF_JEQ, valueLow)}
	case specs.OpMaskedEqual:
		p.load(high)
		p.add(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, valueHigh)
		missHigh := p.unless(unix.BPF_JEQ, uint32(arg.ValueTwo>>32))
		p.load(low)
		p.add(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, valueLow)
		return []int{missHigh, p.unless(unix.BPF_JEQ, uint32(arg.ValueTwo))}
	case specs.OpNotEqual:
		return p.not(arg, specs.OpEqualTo)
	case specs.OpLessThan:
		return p.not(arg, specs.OpGreaterEqual)
	case specs.OpLessEqual:
		return p.not(arg, specs.OpGreaterThan)
	}
	comparison := uint16(unix.BPF_JGE)
	if arg.Op == specs.OpGreaterThan {
		comparison = unix.BPF_JGT
	}
	p.load(high)
	notAbove := p.unless(unix.BPF_JGT, valueHigh)
	holds := p.skip()
	p.land(notAbove)
	missHigh := p.unless(unix.BPF_JEQ, valueHigh)
	p.load(low)
	missLow := p.unless(comparison, valueLow)
	p.land(holds)
	return []int{missHigh, missLow}
}

// not misses where the opposite condition holds.
func (p *program) not(arg specs.LinuxSeccompArg, opposite specs.LinuxSeccompOperator) []int {
	arg.Op = opposite
	holds := p.condition(arg)
	miss := p.skip()
	for _, at := range holds {
		p.land(at)
	}
	return []int{miss}
}

func (p *program) bytes() ([]byte, error) {
	if len(p.code) > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("seccomp profile needs %d instructions; the kernel takes %d", len(p.code), unix.BPF_MAXINSNS)
	}
	out := make([]byte, 0, 8*len(p.code))
	for _, ins := range p.code {
		out = binary.NativeEndian.AppendUint16(out, ins.Code)
		out = append(out, ins.Jt, ins.Jf)
		out = binary.NativeEndian.AppendUint32(out, ins.K)
	}
	return out, nil
}
