package volumes

import (
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Usage adds up the blocks and files below a directory. What vanishes meanwhile counts as far as it was seen.
func Usage(dir string) (bytes, inodes uint64) {
	seen := map[uint64]bool{}
	_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err != nil || unix.Lstat(path, &st) != nil || seen[st.Ino] {
			return nil
		}
		if st.Nlink > 1 {
			seen[st.Ino] = true
		}
		bytes += uint64(st.Blocks) * 512
		inodes++
		return nil
	})
	return bytes, inodes
}
