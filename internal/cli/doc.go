// Package cli is the command line. Each command is a file: its flags, then one call into the package that does the work.
package cli
