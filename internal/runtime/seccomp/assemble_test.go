package seccomp

import (
	"encoding/binary"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// verdict runs a filter on a call as the kernel would.
func verdict(t *testing.T, filter []byte, arch, number uint32, args ...uint64) uint32 {
	t.Helper()
	var raw []bpf.Instruction
	for at := 0; at < len(filter); at += 8 {
		ins := bpf.RawInstruction{
			Op: binary.NativeEndian.Uint16(filter[at:]), Jt: filter[at+2], Jf: filter[at+3],
			K: binary.NativeEndian.Uint32(filter[at+4:]),
		}
		raw = append(raw, ins.Disassemble())
	}
	// The kernel reads the call in its own byte order, the interpreter reads packets in the network's.
	data := make([]byte, 64)
	binary.BigEndian.PutUint32(data[0:], number)
	binary.BigEndian.PutUint32(data[4:], arch)
	for i, arg := range args {
		binary.BigEndian.PutUint32(data[16+8*i:], uint32(arg))
		binary.BigEndian.PutUint32(data[20+8*i:], uint32(arg>>32))
	}
	vm, err := bpf.NewVM(raw)
	if err != nil {
		t.Fatalf("the kernel would refuse the filter: %v", err)
	}
	result, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(result)
}

func assemble(t *testing.T, profile *specs.LinuxSeccomp) []byte {
	t.Helper()
	filter, err := Assemble(profile)
	if err != nil {
		t.Fatal(err)
	}
	return filter
}

func TestDefaultProfile(t *testing.T) {
	const eperm, enosys = unix.SECCOMP_RET_ERRNO | 1, unix.SECCOMP_RET_ERRNO | 38
	const allow, kill = unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_KILL_PROCESS
	const amd64, i386 = unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386
	plain := assemble(t, Default(nil))
	admin := assemble(t, Default([]string{"CAP_SYS_ADMIN"}))
	for _, test := range []struct {
		name   string
		filter []byte
		arch   uint32
		call   string
		args   []uint64
		want   uint32
	}{
		{"reading_is_allowed", plain, amd64, "read", nil, allow},
		{"the_last_known_call_is_allowed", plain, amd64, "futex_waitv", nil, allow},
		{"mounting_is_refused", plain, amd64, "mount", nil, eperm},
		{"mounting_is_allowed_to_an_administrator", admin, amd64, "mount", nil, allow},
		{"a_thread_may_be_cloned", plain, amd64, "clone", []uint64{unix.CLONE_VM | unix.CLONE_THREAD}, allow},
		{"a_user_namespace_may_not_be_cloned", plain, amd64, "clone", []uint64{unix.CLONE_NEWUSER}, eperm},
		{"an_administrator_may_clone_namespaces", admin, amd64, "clone", []uint64{unix.CLONE_NEWUSER}, allow},
		{"clone3_seems_not_to_exist", plain, amd64, "clone3", nil, enosys},
		{"a_known_personality_is_allowed", plain, amd64, "personality", []uint64{0x20008}, allow},
		{"an_unknown_personality_is_refused", plain, amd64, "personality", []uint64{0x1234}, eperm},
		{"a_personality_with_high_bits_is_refused", plain, amd64, "personality", []uint64{1 << 32}, eperm},
		{"an_internet_socket_is_allowed", plain, amd64, "socket", []uint64{unix.AF_INET}, allow},
		{"a_vsock_socket_is_refused", plain, amd64, "socket", []uint64{unix.AF_VSOCK}, eperm},
		{"32_bit_programs_run", plain, i386, "socketcall", nil, allow},
		{"32_bit_programs_are_restricted_too", plain, i386, "mount", nil, eperm},
		{"a_foreign_architecture_is_killed", plain, 12345, "read", nil, kill},
	} {
		t.Run(test.name, func(t *testing.T) {
			table := syscallsX86_64
			if test.arch == i386 {
				table = syscallsX86
			}
			if got := verdict(t, test.filter, test.arch, table[test.call], test.args...); got != test.want {
				t.Errorf("%s%v: got %#x, want %#x", test.call, test.args, got, test.want)
			}
		})
	}
}

func TestConditionsCompareAllSixtyFourBits(t *testing.T) {
	const big = 5 << 32
	for _, test := range []struct {
		name          string
		op            specs.LinuxSeccompOperator
		value, second uint64
		holds, misses []uint64
	}{
		{"equal", specs.OpEqualTo, big, 0, []uint64{big}, []uint64{0, big + 1, 6 << 32}},
		{"not_equal", specs.OpNotEqual, big, 0, []uint64{0, big + 1}, []uint64{big}},
		{"greater", specs.OpGreaterThan, big + 7, 0, []uint64{big + 8, 6 << 32}, []uint64{big + 7, big, 8}},
		{"greater_or_equal", specs.OpGreaterEqual, big + 7, 0, []uint64{big + 7, 6 << 32}, []uint64{big + 6, 9}},
		{"less", specs.OpLessThan, big + 7, 0, []uint64{big + 6, 9}, []uint64{big + 7, 6 << 32}},
		{"less_or_equal", specs.OpLessEqual, big + 7, 0, []uint64{big + 7, 9}, []uint64{big + 8, 6 << 32}},
		{"masked", specs.OpMaskedEqual, 0xff, 0x12, []uint64{0x12, 0x3412}, []uint64{0x13, 0x1200}},
	} {
		t.Run(test.name, func(t *testing.T) {
			filter := assemble(t, &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{
				Names: []string{"read"}, Action: specs.ActAllow,
				Args: []specs.LinuxSeccompArg{{Index: 2, Value: test.value, ValueTwo: test.second, Op: test.op}},
			}}})
			for _, value := range test.holds {
				if got := verdict(t, filter, unix.AUDIT_ARCH_X86_64, unix.SYS_READ, 0, 0, value); got != unix.SECCOMP_RET_ALLOW {
					t.Errorf("%#x does not fulfil the condition", value)
				}
			}
			for _, value := range test.misses {
				if got := verdict(t, filter, unix.AUDIT_ARCH_X86_64, unix.SYS_READ, 0, 0, value); got == unix.SECCOMP_RET_ALLOW {
					t.Errorf("%#x fulfils the condition", value)
				}
			}
		})
	}
}
