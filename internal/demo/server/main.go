// Command demo is the program of the demonstration image: a small web server that tells where it runs and
// with what, and a few verbs to try a cluster with from inside.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lameDuck is how long the server goes on accepting connections after SIGTERM, until every node has heard that it is leaving.
const lameDuck = 3 * time.Second

const usage = `usage: demo [serve]            answer on $PORT (8080), TCP and UDP
       demo get URL [COUNT]     print the answer, COUNT times
       demo udp HOST:PORT TEXT  send a datagram, print the answer
       demo lookup NAME         print the addresses of a name
       demo lines [INTERVAL]    print numbered lines without end
       demo sleep DURATION      wait, then exit
       demo exit CODE [AFTER]   exit with CODE
       demo try FILE TIMES      exit with 1, until FILE has counted that many starts
       demo eat MEBIBYTES [AFTER]  take memory and keep it
       demo facts [PATH...]     print how it was started, and the files there, in JSON
       demo echo                print each line of standard input
       demo terminal            print the terminal's size, and again whenever it changes`

func main() {
	verb, args := "serve", os.Args[1:]
	if filepath.Base(os.Args[0]) == "tar" { // what "kubectl cp" asks a container for
		verb = "tar"
	} else if len(args) > 0 {
		verb, args = args[0], args[1:]
	}
	if err := run(verb, args); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(verb string, args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	at := func(i int, otherwise string) string {
		if i < len(args) {
			return args[i]
		}
		return otherwise
	}
	switch verb {
	case "serve":
		return serve(ctx, at(0, envOr("PORT", "8080")))
	case "get":
		return get(at(0, "http://localhost:8080/"), at(1, "1"))
	case "udp":
		return udp(at(0, "localhost:8080"), at(1, "hello"))
	case "lookup":
		addrs, err := net.DefaultResolver.LookupHost(ctx, at(0, "kubernetes.default"))
		fmt.Println(strings.Join(addrs, "\n"))
		return err
	case "lines":
		return lines(ctx, at(0, "10ms"))
	case "sleep":
		return sleep(ctx, at(0, "1h"))
	case "exit":
		if err := sleep(ctx, at(1, "0s")); err != nil {
			return err
		}
		code, err := strconv.Atoi(at(0, "0"))
		if err != nil {
			return err
		}
		os.Exit(code)
	case "try":
		return try(at(0, "/tmp/tries"), at(1, "2"))
	case "eat":
		if err := sleep(ctx, at(1, "0s")); err != nil {
			return err
		}
		return eat(at(0, "64"))
	case "facts":
		return tellFacts(args)
	case "echo":
		return echo(os.Stdin, os.Stdout)
	case "tar":
		return archive(args, os.Stdin, os.Stdout)
	case "terminal":
		return terminal(ctx)
	}
	return errors.New("no such verb: " + verb + "\n" + usage)
}

func serve(ctx context.Context, port string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/", describe)
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/version", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, os.Getenv("VERSION")) })
	mux.HandleFunc("/hostname", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, hostname()) })
	server := &http.Server{Addr: ":" + port, Handler: mux, ReadHeaderTimeout: 10 * time.Second}

	packets, err := net.ListenPacket("udp", ":"+port)
	if err != nil {
		return err
	}
	answered := make(chan struct{})
	go func() { defer close(answered); answerPackets(packets) }()
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	fmt.Printf("demo %s serves on port %s as %s\n", os.Getenv("VERSION"), port, hostname())

	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	fmt.Println("demo is leaving: still serving for", lameDuck)
	server.SetKeepAlivesEnabled(false)
	time.Sleep(lameDuck)
	end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err = server.Shutdown(end)
	packets.Close()
	<-answered
	return err
}

// describe tells all that a pod can know of itself.
func describe(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "Hello from %s\n\nversion:   %s\npod:       %s\nnamespace: %s\nnode:      %s\naddress:   %s\nclient:    %s\n",
		hostname(), os.Getenv("VERSION"), envOr("POD_NAME", hostname()), envOr("POD_NAMESPACE", serviceAccountNamespace()),
		envOr("NODE_NAME", "(set NODE_NAME from spec.nodeName to see it)"), strings.Join(addresses(), " "), r.RemoteAddr)
	env := os.Environ()
	sort.Strings(env)
	fmt.Fprintf(w, "\nenvironment:\n  %s\n", strings.Join(env, "\n  "))
	fmt.Fprintln(w, "\nmounted files:")
	for _, dir := range mountPoints() {
		listFiles(w, dir)
	}
}

func listFiles(w io.Writer, dir string) {
	const most = 100
	n := 0
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || n >= most {
			return fs.SkipDir
		}
		if d.IsDir() || strings.Contains(path, "/..") {
			return nil
		}
		n++
		size := "?"
		if info, err := os.Stat(path); err == nil {
			size = strconv.FormatInt(info.Size(), 10)
		}
		fmt.Fprintf(w, "  %s (%s bytes)\n", path, size)
		return nil
	})
}

// mountPoints returns the volumes: the mounts that are neither the root nor the kernel's own.
func mountPoints() []string {
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil
	}
	var dirs []string
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[1] == "/" || strings.HasPrefix(f[1], "/proc") || strings.HasPrefix(f[1], "/sys") || strings.HasPrefix(f[1], "/dev") {
			continue
		}
		dirs = append(dirs, f[1])
	}
	sort.Strings(dirs)
	return dirs
}

func answerPackets(conn net.PacketConn) {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		conn.WriteTo(fmt.Appendf(nil, "%s %s", hostname(), buf[:n]), from)
	}
}

func get(url, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for range n {
		resp, err := client.Get(url)
		if err != nil {
			return err
		}
		_, err = io.Copy(os.Stdout, resp.Body)
		resp.Body.Close()
		if err != nil {
			return err
		}
		if resp.StatusCode >= 400 {
			return errors.New(resp.Status)
		}
	}
	return nil
}

func udp(address, text string) error {
	conn, err := net.Dial("udp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	n, err := conn.Read(buf)
	if err != nil {
		return err
	}
	fmt.Println(string(buf[:n]))
	return nil
}

func lines(ctx context.Context, interval string) error {
	every, err := time.ParseDuration(interval)
	if err != nil {
		return err
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 1; ; n++ {
		fmt.Println("line", n)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func sleep(ctx context.Context, duration string) error {
	d, err := time.ParseDuration(duration)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
	return nil
}

// try counts its starts, and tells the count as the container's termination message.
func try(file, times string) error {
	enough, err := strconv.Atoi(times)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	before, _ := strconv.Atoi(string(data)) // no file: no start before
	count := strconv.Itoa(before + 1)
	if err := errors.Join(os.WriteFile(file, []byte(count), 0o644), os.WriteFile("/dev/termination-log", []byte(count), 0o644)); err != nil {
		return err
	}
	if before+1 < enough {
		os.Exit(1)
	}
	return nil
}

// eat ignores the signal that may have woken it: who has eaten keeps it until he is killed.
func eat(mebibytes string) error {
	n, err := strconv.Atoi(mebibytes)
	if err != nil {
		return err
	}
	food := make([][]byte, n)
	for i := range food {
		food[i] = make([]byte, 1<<20)
		for j := 0; j < len(food[i]); j += 4096 {
			food[i][j] = 1
		}
	}
	fmt.Println("holding", len(food), "MiB")
	for {
		time.Sleep(time.Hour)
		runtime.KeepAlive(food)
	}
}

func echo(in io.Reader, out io.Writer) error {
	fmt.Fprintln(out, "listening")
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		fmt.Fprintf(out, "heard %s\n", lines.Text())
	}
	return lines.Err()
}

func terminal(ctx context.Context) error {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	for {
		size, err := unix.IoctlGetWinsize(int(os.Stdin.Fd()), unix.TIOCGWINSZ)
		if err != nil {
			return fmt.Errorf("standard input is no terminal: %w", err)
		}
		fmt.Printf("%d rows, %d columns\n", size.Row, size.Col)
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

func hostname() string {
	name, _ := os.Hostname()
	return name
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

func serviceAccountNamespace() string {
	data, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
	if err != nil {
		return "(set POD_NAMESPACE from metadata.namespace to see it)"
	}
	return string(data)
}

func addresses() []string {
	all, _ := net.InterfaceAddrs()
	var out []string
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			out = append(out, n.IP.String())
		}
	}
	return out
}
