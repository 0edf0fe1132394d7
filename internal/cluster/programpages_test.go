package cluster

import (
	"slices"
	"strings"
	"testing"
)

func TestProgramRunsOnWithoutItsPages(t *testing.T) {
	before := mappedFiles()
	if err := forgetProgram(); err != nil {
		t.Fatal(err)
	}
	if after := mappedFiles(); after >= before {
		t.Errorf("%d bytes of files were mapped, and are still: %d", before, after)
	}
}

func TestOnlyConstantPartsOfTheProgramAreLetGo(t *testing.T) {
	const smaps = `00400000-03005000 r-xp 00000000 fe:00 10004741                           /usr/local/bin/my clipper
Rss:               33180 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
03005000-06b87000 r--p 02c05000 fe:00 10004741                           /usr/local/bin/my clipper
Rss:               39108 kB
Anonymous:             0 kB
06b87000-06d0a000 rw-p 06787000 fe:00 10004741                           /usr/local/bin/my clipper
Anonymous:             0 kB
06d0a000-06e00000 r--p 06787000 fe:00 10004741                           /usr/local/bin/my clipper
Anonymous:            16 kB
07005000-07087000 r--p 02c05000 fe:00 10004742                           /usr/lib/libc
Anonymous:             0 kB
7f41d8dfe000-7f41d9200000 rw-p 00000000 00:00 0
Anonymous:             0 kB
7f41d9200000-7f41d9300000 r-xp 00000000 fe:00 10004741    /usr/local/bin/my clipper (deleted)
Anonymous:             0 kB
`
	found, err := constantParts(strings.NewReader(smaps), "/usr/local/bin/my clipper")
	if want := []part{{0x400000, 0x3005000}, {0x3005000, 0x6b87000}}; err != nil || !slices.Equal(found, want) {
		t.Errorf("%x, %v", found, err)
	}
}
