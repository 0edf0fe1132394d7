package apiserver

import (
	"fmt"
	"runtime"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// statuszObject is what /statusz tells programs, in both its versions.
type statuszObject struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	StartTime         metav1.Time `json:"startTime"`
	UptimeSeconds     int64       `json:"uptimeSeconds"`
	GoVersion         string      `json:"goVersion"`
	BinaryVersion     string      `json:"binaryVersion"`
	EmulationVersion  string      `json:"emulationVersion,omitempty"`
	Paths             []string    `json:"paths,omitempty"`
}

// statuszPaths are the paths for whoever looks into the server.
var statuszPaths = []string{"/flagz", "/healthz", "/livez", "/metrics", "/readyz", "/statusz", "/version"}

// statusz tells since when which version runs.
func (s *Server) statusz() zpage {
	v := s.cfg.Version
	describe := func() statuszObject {
		return statuszObject{
			StartTime: metav1.Time{Time: s.started}, UptimeSeconds: int64(time.Since(s.started).Seconds()), GoVersion: runtime.Version(),
			BinaryVersion: strings.TrimPrefix(v.GitVersion, "v"), EmulationVersion: v.EmulationMajor + "." + v.EmulationMinor, Paths: statuszPaths,
		}
	}
	return zpage{
		name: "statusz", kind: "Statusz",
		text: func(delimiter string) string {
			now := describe()
			up := fmt.Sprintf("%d hr %02d min %02d sec", now.UptimeSeconds/3600, now.UptimeSeconds/60%60, now.UptimeSeconds%60)
			var out strings.Builder
			for _, line := range [][2]string{
				{"\nStarted", now.StartTime.Format(time.UnixDate)}, {"Up", up}, {"Go version", now.GoVersion},
				{"Binary version", now.BinaryVersion}, {"Emulation version", now.EmulationVersion}, {"Paths", strings.Join(now.Paths, " ")},
			} {
				fmt.Fprintf(&out, "%s%s %s\n", line[0], delimiter, line[1])
			}
			return out.String()
		},
		object: func(t metav1.TypeMeta, m metav1.ObjectMeta) any {
			now := describe()
			now.TypeMeta, now.ObjectMeta = t, m
			return now
		},
	}
}
