package core

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// A warner collects texts for Warning headers.
type warner struct{ texts []string }

// maxPairs is how many warnings of two things that clash are given: an answer shows fewer, and there may be as many as there are pairs.
const maxPairs = 4 << 10

func (w *warner) full() bool { return len(w.texts) >= maxPairs }

func (w *warner) at(path *field.Path, format string, args ...any) {
	w.texts = append(w.texts, path.String()+": "+fmt.Sprintf(format, args...))
}

const nullSelector = "a null labelSelector results in matching no pod"

// specWarnings warns of what a pod's or a template's fields no longer do, or probably were not meant to. The path is nil for pods.
func specWarnings(path *field.Path, spec *corev1.PodSpec, meta *metav1.ObjectMeta) []string {
	w := &warner{}
	at := path.Child("spec")
	w.placement(spec, at)
	for _, a := range []struct{ key, use string }{
		{"scheduler.alpha.kubernetes.io/critical-pod", `non-functional in v1.16+; use the "priorityClassName" field instead`},
		{"security.alpha.kubernetes.io/sysctls", `non-functional in v1.11+; use the "sysctls" field instead`},
		{"security.alpha.kubernetes.io/unsafe-sysctls", `non-functional in v1.11+; use the "sysctls" field instead`},
	} {
		if _, there := meta.Annotations[a.key]; there {
			w.at(path.Child("metadata", "annotations").Key(a.key), "%s", a.use)
		}
	}
	w.volumes(spec.Volumes, at.Child("volumes"))
	w.overlaps(spec.Volumes)
	w.duplicates(spec, at)
	w.fractions(spec.Overhead, at.Child("overhead"))
	w.profiles(path, spec, meta)
	for place, c := range allContainers(spec) {
		w.fractions(c.Resources.Limits, place.path(at).Child("resources", "limits"))
		w.fractions(c.Resources.Requests, place.path(at).Child("resources", "requests"))
		w.env(c.Env, place.path(at).Child("env"))
	}
	w.ports(spec, at)
	if grace := spec.TerminationGracePeriodSeconds; grace != nil && *grace < 0 {
		w.at(at.Child("terminationGracePeriodSeconds"), "must be >= 0; negative values are invalid and will be treated as 1")
	}
	w.affinity(spec.Affinity, at.Child("affinity"))
	if spec.DNSConfig != nil {
		for i, ip := range spec.DNSConfig.Nameservers {
			w.texts = append(w.texts, validation.GetWarningsForIP(at.Child("dnsConfig", "nameservers").Index(i), ip)...)
		}
	}
	for i, alias := range spec.HostAliases {
		w.texts = append(w.texts, validation.GetWarningsForIP(at.Child("hostAliases").Index(i).Child("ip"), alias.IP)...)
	}
	return w.texts
}

// Labels of nodes that were replaced by others.
var deprecatedNodeLabels = map[string]string{
	"beta.kubernetes.io/arch":                  `deprecated since v1.14; use "kubernetes.io/arch" instead`,
	"beta.kubernetes.io/os":                    `deprecated since v1.14; use "kubernetes.io/os" instead`,
	"failure-domain.beta.kubernetes.io/region": `deprecated since v1.17; use "topology.kubernetes.io/region" instead`,
	"failure-domain.beta.kubernetes.io/zone":   `deprecated since v1.17; use "topology.kubernetes.io/zone" instead`,
	"beta.kubernetes.io/instance-type":         `deprecated since v1.17; use "node.kubernetes.io/instance-type" instead`,
}

// DeprecatedNodeLabel tells what to use in a label's place, where it is deprecated.
func DeprecatedNodeLabel(key string) (advice string, deprecated bool) {
	advice, deprecated = deprecatedNodeLabels[key]
	return advice, deprecated
}

// NodeSelectorWarnings warns of deprecated labels of nodes.
func NodeSelectorWarnings(s *metav1.LabelSelector, path *field.Path) []string {
	if s == nil {
		return nil
	}
	w := &warner{}
	for i, r := range s.MatchExpressions {
		if msg, old := deprecatedNodeLabels[r.Key]; old {
			w.at(path.Child("matchExpressions").Index(i).Child("key"), "%s is %s", r.Key, msg)
		}
	}
	for key := range s.MatchLabels {
		if msg, old := deprecatedNodeLabels[key]; old {
			w.at(path.Child("matchLabels").Child(key), "%s", msg)
		}
	}
	return w.texts
}

func (w *warner) placement(spec *corev1.PodSpec, at *field.Path) {
	for key := range spec.NodeSelector {
		if msg, old := deprecatedNodeLabels[key]; old {
			w.at(at.Child("nodeSelector").Key(key), "%s", msg)
		}
	}
	if spec.Affinity != nil && spec.Affinity.NodeAffinity != nil {
		n, path := spec.Affinity.NodeAffinity, at.Child("affinity", "nodeAffinity")
		if r := n.RequiredDuringSchedulingIgnoredDuringExecution; r != nil {
			for i, t := range r.NodeSelectorTerms {
				w.nodeTerm(t, false, path.Child("requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms").Index(i))
			}
		}
		for i, t := range n.PreferredDuringSchedulingIgnoredDuringExecution {
			w.nodeTerm(t.Preference, true, path.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i).Child("preference"))
		}
	}
	for i, c := range spec.TopologySpreadConstraints {
		path := at.Child("topologySpreadConstraints").Index(i)
		if msg, old := deprecatedNodeLabels[c.TopologyKey]; old {
			w.at(path.Child("topologyKey"), "%s is %s", c.TopologyKey, msg)
		}
		if c.LabelSelector == nil {
			w.at(path.Child("labelSelector"), nullSelector)
		}
	}
}

// nodeTerm also warns of values that no label can have, in preferences, where they are tolerated.
func (w *warner) nodeTerm(t corev1.NodeSelectorTerm, values bool, path *field.Path) {
	for i, r := range t.MatchExpressions {
		at := path.Child("matchExpressions").Index(i)
		if msg, old := deprecatedNodeLabels[r.Key]; old {
			w.at(at.Child("key"), "%s is %s", r.Key, msg)
		}
		for j, v := range r.Values {
			if !values {
				break
			}
			for _, msg := range validation.IsValidLabelValue(v) {
				w.at(at.Child("values").Index(j), "%s is invalid, %s", v, msg)
			}
		}
	}
}

func (w *warner) affinity(a *corev1.Affinity, path *field.Path) {
	if a == nil {
		return
	}
	look := func(name string, required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm) {
		for i, t := range required {
			if t.LabelSelector == nil {
				w.at(path.Child(name, "requiredDuringSchedulingIgnoredDuringExecution").Index(i).Child("labelSelector"), nullSelector)
			}
		}
		for i, t := range preferred {
			if t.PodAffinityTerm.LabelSelector == nil {
				w.at(path.Child(name, "preferredDuringSchedulingIgnoredDuringExecution").Index(i).Child("podAffinityTerm", "labelSelector"), nullSelector)
			}
		}
	}
	if p := a.PodAffinity; p != nil {
		look("podAffinity", p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if p := a.PodAntiAffinity; p != nil {
		look("podAntiAffinity", p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution)
	}
}

func (w *warner) volumes(volumes []corev1.Volume, path *field.Path) {
	for i := range volumes {
		v := &volumes[i]
		for _, old := range []struct {
			present    bool
			name, what string
		}{
			{v.PhotonPersistentDisk != nil, "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"},
			{v.GitRepo != nil, "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"},
			{v.ScaleIO != nil, "scaleIO", "deprecated in v1.16, non-functional in v1.22+"},
			{v.Flocker != nil, "flocker", "deprecated in v1.22, non-functional in v1.25+"},
			{v.StorageOS != nil, "storageOS", "deprecated in v1.22, non-functional in v1.25+"},
			{v.Quobyte != nil, "quobyte", "deprecated in v1.22, non-functional in v1.25+"},
			{v.Glusterfs != nil, "glusterfs", "deprecated in v1.25, non-functional in v1.26+"},
		} {
			if old.present {
				w.at(path.Index(i).Child(old.name), "%s", old.what)
			}
		}
		if v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil {
			w.claim(&v.Ephemeral.VolumeClaimTemplate.Spec, path.Index(i).Child("ephemeral", "volumeClaimTemplate", "spec"))
		}
		if v.CephFS != nil {
			w.at(path.Index(i).Child("cephfs"), "deprecated in v1.28, non-functional in v1.31+")
		}
		if v.RBD != nil {
			w.at(path.Index(i).Child("rbd"), "deprecated in v1.28, non-functional in v1.31+")
		}
	}
}

// claim warns of a claim for fractions of bytes.
func (w *warner) claim(s *corev1.PersistentVolumeClaimSpec, path *field.Path) {
	for _, list := range []struct {
		name string
		of   corev1.ResourceList
	}{{"requests", s.Resources.Requests}, {"limits", s.Resources.Limits}} {
		if q, there := list.of[corev1.ResourceStorage]; there && q.MilliValue()%1000 != 0 {
			w.at(path.Child("resources", list.name).Key(string(corev1.ResourceStorage)), "fractional byte value %q is invalid, must be an integer", q.String())
		}
	}
}

func (w *warner) duplicates(spec *corev1.PodSpec, at *field.Path) {
	ips, secrets := sets.New[string](), sets.New[string]()
	for i, a := range spec.HostAliases {
		if ips.Has(a.IP) {
			w.at(at.Child("hostAliases").Index(i).Child("ip"), "duplicate ip %q", a.IP)
		}
		ips.Insert(a.IP)
	}
	for i, s := range spec.ImagePullSecrets {
		if secrets.Has(s.Name) {
			w.at(at.Child("imagePullSecrets").Index(i).Child("name"), "duplicate name %q", s.Name)
		}
		secrets.Insert(s.Name)
	}
	for i, s := range spec.ImagePullSecrets {
		if s.Name == "" {
			w.at(at.Child("imagePullSecrets").Index(i).Child("name"), "invalid empty name %q", s.Name)
		}
	}
}

func (w *warner) fractions(list corev1.ResourceList, path *field.Path) {
	for _, name := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		if q, there := list[name]; there && q.MilliValue()%1000 != 0 {
			w.at(path.Key(string(name)), "fractional byte value %q is invalid, must be an integer", q.String())
		}
	}
}

func (w *warner) profiles(path *field.Path, spec *corev1.PodSpec, meta *metav1.ObjectMeta) {
	if len(meta.Annotations) == 0 {
		return
	}
	annotations := path.Child("metadata", "annotations")
	seccomp := func(key string) {
		if _, there := meta.Annotations[key]; there {
			w.at(annotations.Key(key), `non-functional in v1.27+; use the "seccompProfile" field instead`)
		}
	}
	if spec.SecurityContext == nil || spec.SecurityContext.SeccompProfile == nil {
		seccomp(corev1.SeccompPodAnnotationKey)
	}
	whole := podAppArmor(spec)
	for _, c := range allContainers(spec) {
		if c.SecurityContext == nil || c.SecurityContext.SeccompProfile == nil {
			seccomp(corev1.SeccompContainerAnnotationKeyPrefix + c.Name)
		}
		key := corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix + c.Name
		text, there := meta.Annotations[key]
		if !there || c.SecurityContext != nil && c.SecurityContext.AppArmorProfile != nil && path != nil {
			continue
		}
		if path == nil && !appArmorMoved(c, whole, text) {
			continue
		}
		if path == nil || whole == nil || !equality.Semantic.DeepEqual(whole, appArmorOf(text)) {
			w.at(annotations.Key(key), `deprecated since v1.30; use the "appArmorProfile" field instead`)
		}
	}
}

// appArmorMoved tells whether the profile of a pod's container was taken from the annotation, or cannot be.
func appArmorMoved(c *corev1.Container, whole *corev1.AppArmorProfile, text string) bool {
	wanted := appArmorOf(text)
	if wanted == nil || len(validateAppArmor(wanted, field.NewPath(""))) > 0 {
		return c.SecurityContext == nil || c.SecurityContext.AppArmorProfile == nil
	}
	return !equality.Semantic.DeepEqual(wanted, whole) && c.SecurityContext != nil && equality.Semantic.DeepEqual(c.SecurityContext.AppArmorProfile, wanted)
}

// env warns of a variable that hides an earlier one without building on it.
func (w *warner) env(vars []corev1.EnvVar, path *field.Path) {
	seen := sets.New[string]()
	for i, v := range vars {
		if !seen.Has(v.Name) {
			seen.Insert(v.Name)
			continue
		}
		ref := "$(" + v.Name + ")"
		if v.ValueFrom != nil || v.Value == ref || !strings.Contains(v.Value, ref) {
			w.at(path.Index(i), "hides previous definition of %q, which may be dropped when using apply", v.Name)
		}
	}
}

type placedPort struct {
	path *field.Path
	corev1.ContainerPort
}

func (w *warner) ports(spec *corev1.PodSpec, at *field.Path) {
	same := map[string]*clashes{}
	var named []placedPort
	for place, c := range allContainers(spec) {
		for i, p := range c.Ports {
			here := placedPort{place.path(at).Child("ports").Index(i), p}
			if p.Name != "" {
				named = append(named, here)
			}
			if p.HostIP != "" && p.HostPort == 0 {
				w.at(here.path, "hostIP set without hostPort: %+v", p)
			}
			key := fmt.Sprintf("%d/%s", p.ContainerPort, p.Protocol)
			if same[key] == nil {
				same[key] = &clashes{at: map[hostPort][]int{}}
			}
			if !w.full() {
				for _, other := range same[key].of(p) {
					w.portPair(here, same[key].ports[other])
				}
			}
			same[key].add(here)
		}
	}
	first := map[string]*field.Path{}
	for _, p := range named {
		if other, twice := first[p.Name]; twice {
			w.at(p.path, "duplicate port name %q with %s, services and probes that select ports by name will use %s", p.Name, other, other)
		} else {
			first[p.Name] = p.path
		}
	}
}

// clashes are the ports of one number and protocol, and which of them ask for a port of the host.
type clashes struct {
	ports []placedPort
	at    map[hostPort][]int // those of a port of the host, by address, and under no address once more if they have one
}

type hostPort struct {
	number int32
	ip     string
	every  bool // of all addresses
}

func (c *clashes) add(p placedPort) {
	i := len(c.ports)
	c.ports = append(c.ports, p)
	for _, key := range []hostPort{{number: p.HostPort, ip: p.HostIP}, {number: p.HostPort, every: true}} {
		c.at[key] = append(c.at[key], i)
	}
}

// of lists, in order, the ports that may clash with p: what asks for no port of the host does with all, what asks for one of any address
// with all of that port.
func (c *clashes) of(p corev1.ContainerPort) []int {
	if p.HostPort == 0 {
		all := make([]int, min(len(c.ports), maxPairs))
		for i := range all {
			all[i] = i
		}
		return all
	}
	out := slices.Clone(first(c.at[hostPort{number: 0, every: true}]))
	if p.HostIP == "" {
		out = append(out, first(c.at[hostPort{number: p.HostPort, every: true}])...)
	} else {
		out = append(out, first(c.at[hostPort{number: p.HostPort, ip: p.HostIP}])...)
		out = append(out, first(c.at[hostPort{number: p.HostPort}])...)
	}
	slices.Sort(out)
	return out
}

// first cuts a list of what is warned of to what is shown at most.
func first(list []int) []int { return list[:min(len(list), maxPairs)] }

func (w *warner) portPair(p, other placedPort) {
	anyHere, anyThere := p.HostIP == "", other.HostIP == ""
	switch {
	case p.HostIP == other.HostIP && p.HostPort == other.HostPort:
		w.at(p.path, "duplicate port definition with %s", other.path)
	case p.HostPort == 0 || other.HostPort == 0:
		w.at(p.path, "overlapping port definition with %s", other.path)
	case p.HostPort == other.HostPort && anyHere != anyThere:
		w.at(p.path, "dangerously ambiguous port definition with %s", other.path)
	}
}
