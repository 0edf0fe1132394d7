// Command nmeter prints the time of day with milliseconds: what the node suite asks of busybox's nmeter, which Debian's busybox lacks.
package main

import (
	"fmt"
	"time"
)

func main() { fmt.Println(time.Now().UTC().Format("15:04:05.000")) }
