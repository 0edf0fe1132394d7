package image

import (
	"bytes"
	"errors"
	"io"
	"os"
)

const sparseBlock = 64 << 10

var zeroBlock [sparseBlock]byte

// copySparse copies a file's content and leaves holes where it is zero for a whole block. It returns the
// bytes that were copied or skipped; a hole at the end is the caller's to make, by setting the size.
func copySparse(to *os.File, from io.Reader) (int64, error) {
	buffer := make([]byte, sparseBlock)
	var total int64
	hole := false
	for {
		n, err := io.ReadFull(from, buffer)
		if n > 0 {
			if n == sparseBlock && bytes.Equal(buffer, zeroBlock[:]) {
				if _, err := to.Seek(int64(n), io.SeekCurrent); err != nil {
					return total, err
				}
				hole = true
			} else {
				if _, err := to.Write(buffer[:n]); err != nil {
					return total, err
				}
				hole = false
			}
			total += int64(n)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			if hole {
				return total, to.Truncate(total)
			}
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}
