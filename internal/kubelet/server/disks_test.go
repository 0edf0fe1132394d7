package server

import (
	"slices"
	"testing"
)

func TestDisksThatWereUsedAreTold(t *testing.T) {
	got := parseDisks("   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n 254       0 vda 1 2 3 4 5 6 7 8 9 10 11 0 0 0 0 12 13\n")
	want := []disk{{"vda", [11]float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
