package criconfig

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// masterService is visible to every pod.
const masterService = "kubernetes"

// ServiceEnv returns the variables that tell a pod of services: those of its namespace if it's linked to them, and the API's in any case.
func ServiceEnv(pod *corev1.Pod, services []*corev1.Service) []EnvVar {
	linked := pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks
	var chosen []*corev1.Service
	for _, s := range services {
		switch {
		case s.Spec.ClusterIP == "" || s.Spec.ClusterIP == corev1.ClusterIPNone || len(s.Spec.Ports) == 0:
		case s.Namespace == pod.Namespace && (linked || s.Namespace == corev1.NamespaceDefault && s.Name == masterService):
			chosen = append(chosen, s)
		case s.Namespace == corev1.NamespaceDefault && s.Name == masterService:
			if !slices.ContainsFunc(services, func(o *corev1.Service) bool { return linked && o.Namespace == pod.Namespace && o.Name == masterService }) {
				chosen = append(chosen, s)
			}
		}
	}
	slices.SortFunc(chosen, func(a, b *corev1.Service) int { return cmp.Compare(a.Name, b.Name) })
	var out []EnvVar
	for _, s := range chosen {
		out = append(out, serviceVars(s)...)
	}
	return out
}

func envName(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "-", "_")) }

func serviceVars(s *corev1.Service) []EnvVar {
	name, ip := envName(s.Name), s.Spec.ClusterIP
	out := []EnvVar{
		{name + "_SERVICE_HOST", ip},
		{name + "_SERVICE_PORT", strconv.Itoa(int(s.Spec.Ports[0].Port))},
	}
	for _, p := range s.Spec.Ports {
		if p.Name != "" {
			out = append(out, EnvVar{name + "_SERVICE_PORT_" + envName(p.Name), strconv.Itoa(int(p.Port))})
		}
	}
	for i, p := range s.Spec.Ports {
		protocol := strings.ToLower(string(cmp.Or(p.Protocol, corev1.ProtocolTCP)))
		url := protocol + "://" + net.JoinHostPort(ip, strconv.Itoa(int(p.Port)))
		if i == 0 {
			out = append(out, EnvVar{name + "_PORT", url})
		}
		prefix := fmt.Sprintf("%s_PORT_%d_%s", name, p.Port, strings.ToUpper(protocol))
		out = append(out,
			EnvVar{prefix, url},
			EnvVar{prefix + "_PROTO", protocol},
			EnvVar{prefix + "_PORT", strconv.Itoa(int(p.Port))},
			EnvVar{prefix + "_ADDR", ip},
		)
	}
	return out
}
