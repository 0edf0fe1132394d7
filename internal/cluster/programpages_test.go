package cluster

import "testing"

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
	const exe = "/usr/local/bin/my clipper"
	for line, want := range map[string]bool{
		"00400000-03005000 r-xp 00000000 fe:00 10004741                           " + exe:        true,
		"03005000-06b87000 r--p 02c05000 fe:00 10004741                           " + exe:        true,
		"06b87000-06d0a000 rw-p 06787000 fe:00 10004741                           " + exe:        false,
		"03005000-06b87000 r--p 02c05000 fe:00 10004741                           /usr/lib/libc": false,
		"7f41d8dfe000-7f41d9200000 rw-p 00000000 00:00 0 ":                                       false,
		"00400000-03005000 r-xp 00000000 fe:00 10004741    " + exe + " (deleted)":                false,
	} {
		start, end, ok := constantPart(line, exe)
		if ok != want || ok && (start == 0 || end <= start) {
			t.Errorf("%s: %x-%x, %t", line, start, end, ok)
		}
	}
}
