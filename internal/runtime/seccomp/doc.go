// Package seccomp assembles filters of system calls for the kernel, without libseccomp.
//
//	filter, err := seccomp.Assemble(seccomp.Default(capabilities))
//
// What flows in: a profile in OCI's terms, the built-in default or one from a file. What flows out:
// instructions for the kernel, as bytes, ready to install. The numbers of system calls come from
// golang.org/x/sys (see gen.go).
package seccomp

//go:generate go run gen.go
