package e2e

import (
	"flag"
	"os/exec"
	"testing"
)

var clientProgram = flag.String("client-program", "", "a program with client-go of some version (test/clients/program) to run against the tests' cluster")

func TestProgramWithClientGoOfAnotherVersionWorks(t *testing.T) {
	if *clientProgram == "" {
		t.Skip("\"make clients\" runs it")
	}
	out, err := exec.CommandContext(t.Context(), *clientProgram, "-kubeconfig", kubeconfig).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
