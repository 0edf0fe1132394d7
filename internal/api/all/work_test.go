package all_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"clipper.dev/clipper/internal/api"
)

// many joins what a format makes of numbers: "%[1]d" as often as it's wanted.
func many(n int, format string) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

func podWith(spec string) func(int) string {
	return func(n int) string {
		spec := strings.ReplaceAll(spec, "$", fmt.Sprint(n))
		return `{"metadata":{"name":"x","namespace":"ns"},"spec":{` + fill(spec, n) + `}}`
	}
}

// fill replaces "<<format>>" by n of what the format makes.
func fill(text string, n int) string {
	before, rest, found := strings.Cut(text, "<<")
	if !found {
		return text
	}
	format, after, _ := strings.Cut(rest, ">>")
	return before + many(n, format) + fill(after, n)
}

func object(text string) func(int) string {
	return func(n int) string { return fill(text, n) }
}

const container = `"containers":[{"name":"c","image":"i"}]`

// definitionOf is a CustomResourceDefinition with a schema.
func definitionOf(schema string) func(int) string {
	return object(`{"metadata":{"name":"foos.example.com"},"spec":{"group":"example.com","scope":"Namespaced","names":{"plural":"foos","singular":"foo","kind":"Foo","listKind":"FooList"},
		"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":` + schema + `}}}}]}}`)
}

// large are objects whose lists and maps may be of any length. small is the length from which growth is measured.
var large = []struct {
	name, group, resource string
	small                 int
	of                    func(n int) string
}{
	{"containers", "", "pods", 250, podWith(`"containers":[<<{"name":"c%[1]d","image":"i"}>>]`)},
	{"containers of one name", "", "pods", 250, podWith(`"containers":[<<{"name":"c","image":"i%[1]d"}>>]`)},
	{"init containers", "", "pods", 250, podWith(container + `,"initContainers":[<<{"name":"i%[1]d","image":"i"}>>]`)},
	{"variables", "", "pods", 1000, podWith(`"containers":[{"name":"c","image":"i","env":[<<{"name":"E%[1]d","value":"v"}>>]}]`)},
	{"variables of one name", "", "pods", 1000, podWith(`"containers":[{"name":"c","image":"i","env":[<<{"name":"E","value":"%[1]d"}>>]}]`)},
	{"ports", "", "pods", 1000, podWith(`"containers":[{"name":"c","image":"i","ports":[<<{"containerPort":%[1]d}>>]}]`)},
	{"ports that are one", "", "pods", 1000, podWith(`"containers":[{"name":"c","image":"i","ports":[<<{"containerPort":1,"name":"p%[1]d"}>>]}]`)},
	{"ports of many addresses", "", "pods", 1000, podWith(`"containers":[{"name":"c","image":"i","ports":[<<{"containerPort":1,"hostPort":1,"hostIP":"::%[1]d"}>>]}]`)},
	{"volumes", "", "pods", 500, podWith(container + `,"volumes":[<<{"name":"v%[1]d","emptyDir":{}}>>]`)},
	{"volumes and mounts", "", "pods", 500, podWith(`"containers":[{"name":"c","image":"i","volumeMounts":[<<{"name":"v%[1]d","mountPath":"/%[1]d"}>>]}],"volumes":[<<{"name":"v%[1]d","emptyDir":{}}>>]`)},
	{"claims as volumes", "", "pods", 500, podWith(container + `,"volumes":[<<{"name":"v%[1]d","persistentVolumeClaim":{"claimName":"c"}}>>]`)},
	{"files in a volume", "", "pods", 1000, podWith(container + `,"volumes":[{"name":"v","configMap":{"name":"m","items":[<<{"key":"k","path":"p%[1]d"}>>]}}]`)},
	{"files of one path", "", "pods", 1000, podWith(container + `,"volumes":[{"name":"v","configMap":{"name":"m","items":[<<{"key":"k%[1]d","path":"p"}>>]}}]`)},
	{"sources of a volume", "", "pods", 500, podWith(container + `,"volumes":[{"name":"v","projected":{"sources":[<<{"configMap":{"name":"m%[1]d","items":[{"key":"k","path":"p%[1]d"}]}}>>]}}]`)},
	{"tolerations", "", "pods", 1000, podWith(container + `,"tolerations":[<<{"key":"k%[1]d","operator":"Exists"}>>]`)},
	{"constraints of spreading", "", "pods", 1000, podWith(container + `,"topologySpreadConstraints":[<<{"maxSkew":1,"topologyKey":"k%[1]d","whenUnsatisfiable":"DoNotSchedule","labelSelector":{}}>>]`)},
	{"host aliases", "", "pods", 1000, podWith(container + `,"hostAliases":[<<{"ip":"10.0.0.1","hostnames":["h%[1]d"]}>>]`)},
	{"secrets to pull with", "", "pods", 1000, podWith(container + `,"imagePullSecrets":[<<{"name":"s%[1]d"}>>]`)},
	{"readiness gates", "", "pods", 1000, podWith(container + `,"readinessGates":[<<{"conditionType":"a.b/c%[1]d"}>>]`)},
	{"scheduling gates", "", "pods", 1000, podWith(container + `,"schedulingGates":[<<{"name":"a.b/c%[1]d"}>>]`)},
	{"claims of devices", "", "pods", 500, podWith(`"containers":[{"name":"c","image":"i","resources":{"claims":[<<{"name":"r%[1]d"}>>]}}],"resourceClaims":[<<{"name":"r%[1]d","resourceClaimName":"r"}>>]`)},
	{"resources", "", "pods", 500, podWith(`"containers":[{"name":"c","image":"i","resources":{"requests":{<<"a.b/r%[1]d":"1">>},"limits":{<<"a.b/r%[1]d":"1">>}}}]`)},
	{"node selector terms", "", "pods", 500, podWith(container + `,"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[<<{"matchExpressions":[{"key":"k%[1]d","operator":"Exists"}]}>>]}}}`)},
	{"affinity terms", "", "pods", 500, podWith(container + `,"affinity":{"podAntiAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[<<{"topologyKey":"k%[1]d","labelSelector":{"matchLabels":{"a":"b"}}}>>]}}`)},
	{"a selector's values", "", "pods", 1000, podWith(container + `,"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"k","operator":"In","values":[<<"v%[1]d">>]}]}]}}}`)},
	{"kernel parameters", "", "pods", 1000, podWith(container + `,"securityContext":{"sysctls":[<<{"name":"net.x%[1]d","value":"1"}>>]}`)},
	{"groups", "", "pods", 2500, podWith(container + `,"securityContext":{"supplementalGroups":[<<%[1]d>>]}`)},
	{"search domains", "", "pods", 1000, podWith(container + `,"dnsPolicy":"None","dnsConfig":{"nameservers":["1.2.3.4"],"searches":[<<"s%[1]d">>],"options":[<<{"name":"o%[1]d"}>>]}`)},
	{"owners", "", "configmaps", 1000, object(`{"metadata":{"name":"x","namespace":"ns","ownerReferences":[<<{"apiVersion":"v1","kind":"Pod","name":"p%[1]d","uid":"u%[1]d"}>>]}}`)},
	{"finalizers", "", "configmaps", 1000, object(`{"metadata":{"name":"x","namespace":"ns","finalizers":[<<"a.b/c%[1]d">>]}}`)},
	{"finalizers of a namespace", "", "namespaces", 1000, object(`{"metadata":{"name":"x"},"spec":{"finalizers":[<<"a.b/c%[1]d">>]}}`)},
	{"keys of data", "", "configmaps", 2500, object(`{"metadata":{"name":"x","namespace":"ns"},"data":{<<"k%[1]d":"v">>},"binaryData":{<<"b%[1]d":"">>}}`)},
	{"service ports", "", "services", 500, object(`{"metadata":{"name":"x","namespace":"ns"},"spec":{"type":"NodePort","ports":[<<{"name":"p%[1]d","port":%[1]d,"nodePort":%[1]d}>>]}}`)},
	{"service ports that are one", "", "services", 500, object(`{"metadata":{"name":"x","namespace":"ns"},"spec":{"ports":[<<{"name":"p","port":1,"targetPort":%[1]d}>>]}}`)},
	{"external addresses", "", "services", 1000, object(`{"metadata":{"name":"x","namespace":"ns"},"spec":{"ports":[{"port":1}],"externalIPs":[<<"2001::%[1]d">>]}}`)},
	{"ranges of sources", "", "services", 500, object(`{"metadata":{"name":"x","namespace":"ns"},"spec":{"type":"LoadBalancer","ports":[{"port":1}],"loadBalancerSourceRanges":[<<"10.0.0.%[1]d/32">>]}}`)},
	{"taints", "", "nodes", 1000, object(`{"metadata":{"name":"x"},"spec":{"taints":[<<{"key":"k%[1]d","effect":"NoSchedule"}>>]}}`)},
	{"subsets", "", "endpoints", 500, object(`{"metadata":{"name":"x","namespace":"ns"},"subsets":[<<{"addresses":[{"ip":"10.0.0.1"}],"ports":[{"port":1,"name":"p%[1]d"}]}>>]}`)},
	{"limits", "", "limitranges", 500, object(`{"metadata":{"name":"x","namespace":"ns"},"spec":{"limits":[<<{"type":"a.b/t%[1]d","max":{"cpu":"1"}}>>]}}`)},
	{"quotas", "", "resourcequotas", 1000, object(`{"metadata":{"name":"x","namespace":"ns"},"spec":{"hard":{<<"count/r%[1]d.a.b":"1">>},"scopes":[<<"S%[1]d">>]}}`)},
	{"rules of a role", "rbac.authorization.k8s.io", "clusterroles", 1000, object(`{"metadata":{"name":"x"},"rules":[<<{"apiGroups":["g%[1]d"],"resources":["r"],"verbs":["v"]}>>]}`)},
	{"subjects", "rbac.authorization.k8s.io", "clusterrolebindings", 1000, object(`{"metadata":{"name":"x"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"r"},"subjects":[<<{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"u%[1]d"}>>]}`)},
	{"addresses of a slice", "discovery.k8s.io", "endpointslices", 250, object(`{"metadata":{"name":"x","namespace":"ns"},"addressType":"IPv6","endpoints":[<<{"addresses":["2001::%[1]d"]}>>],"ports":[<<{"name":"p%[1]d","port":1}>>]}`)},
	{"rules of an ingress", "networking.k8s.io", "ingresses", 500, object(`{"metadata":{"name":"x","namespace":"ns"},"spec":{"tls":[<<{"hosts":["h%[1]d.example.com"],"secretName":"s"}>>],"rules":[<<{"host":"h%[1]d.example.com","http":{"paths":[{"path":"/","pathType":"Prefix","backend":{"service":{"name":"s","port":{"number":1}}}}]}}>>]}}`)},
	{"peers of a policy", "networking.k8s.io", "networkpolicies", 500, object(`{"metadata":{"name":"x","namespace":"ns"},"spec":{"podSelector":{},"ingress":[<<{"from":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}}],"ports":[{"port":%[1]d,"protocol":"TCP"}]}>>]}}`)},
	{"exceptions of a block", "networking.k8s.io", "networkpolicies", 1000, object(`{"metadata":{"name":"x","namespace":"ns"},"spec":{"podSelector":{},"ingress":[{"from":[{"ipBlock":{"cidr":"2001::/16","except":[<<"2001::%[1]d/128">>]}}]}]}}`)},
	{"rules of a failure policy", "batch", "jobs", 500, object(`{"metadata":{"name":"x","namespace":"ns"},"spec":{"template":{"spec":{` + container + `,"restartPolicy":"Never"}},"podFailurePolicy":{"rules":[<<{"action":"Ignore","onExitCodes":{"operator":"In","values":[%[1]d]}}>>]}}}`)},
	{"exit codes", "batch", "jobs", 1000, object(`{"metadata":{"name":"x","namespace":"ns"},"spec":{"template":{"spec":{` + container + `,"restartPolicy":"Never"}},"podFailurePolicy":{"rules":[{"action":"Ignore","onExitCodes":{"operator":"In","values":[<<%[1]d>>]}}]}}}`)},
	{"claim templates", "apps", "statefulsets", 250, object(`{"metadata":{"name":"x","namespace":"ns"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{` + container + `}},"volumeClaimTemplates":[<<{"metadata":{"name":"v%[1]d"},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1"}}}}>>]}}`)},
	{"metrics of an autoscaler", "autoscaling", "horizontalpodautoscalers", 500, object(`{"metadata":{"name":"x","namespace":"ns"},"spec":{"scaleTargetRef":{"kind":"Deployment","name":"d"},"maxReplicas":3,"metrics":[<<{"type":"Pods","pods":{"metric":{"name":"m%[1]d"},"target":{"type":"AverageValue","averageValue":"1"}}}>>]}}`)},
	{"attributes of devices", "resource.k8s.io", "resourceslices", 50, object(`{"metadata":{"name":"x"},"spec":{"driver":"d.example.com","nodeName":"n","pool":{"name":"p","resourceSliceCount":1},"devices":[<<{"name":"d%[1]d","attributes":{"a%[1]d":{"int":1}}}>>]}}`)},
	{"requests of devices", "resource.k8s.io", "resourceclaims", 250, object(`{"metadata":{"name":"x","namespace":"ns"},"spec":{"devices":{"requests":[<<{"name":"r%[1]d","exactly":{"deviceClassName":"c"}}>>],"constraints":[<<{"requests":["r%[1]d"],"matchAttribute":"a.b/c"}>>]}}}`)},
	{"rules of a flow", "flowcontrol.apiserver.k8s.io", "flowschemas", 500, object(`{"metadata":{"name":"x"},"spec":{"priorityLevelConfiguration":{"name":"p"},"matchingPrecedence":1,"rules":[<<{"subjects":[{"kind":"User","user":{"name":"u%[1]d"}}],"resourceRules":[{"verbs":["get"],"apiGroups":["g"],"resources":["r"],"clusterScope":true}]}>>]}}`)},
	{"webhooks", "admissionregistration.k8s.io", "validatingwebhookconfigurations", 250, object(`{"metadata":{"name":"x"},"webhooks":[<<{"name":"w%[1]d.a.b","sideEffects":"None","admissionReviewVersions":["v1"],"clientConfig":{"url":"https://a.b/c"}}>>]}`)},
	{"properties of a schema", "apiextensions.k8s.io", "customresourcedefinitions", 250, definitionOf(`{"type":"object","properties":{<<"p%[1]d":{"type":"string"}>>}}`)},
	{"required properties", "apiextensions.k8s.io", "customresourcedefinitions", 250, definitionOf(`{"type":"object","required":[<<"p%[1]d">>],"properties":{<<"p%[1]d":{"type":"string"}>>}}`)},
	{"values of an enumeration", "apiextensions.k8s.io", "customresourcedefinitions", 500, definitionOf(`{"type":"string","enum":[<<"v%[1]d">>]}`)},
	{"defaults", "apiextensions.k8s.io", "customresourcedefinitions", 250, definitionOf(`{"type":"object","properties":{<<"p%[1]d":{"type":"string","default":"d"}>>}}`)},
	{"keys of a list", "apiextensions.k8s.io", "customresourcedefinitions", 250, definitionOf(`{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":[<<"p%[1]d">>],"items":{"type":"object","required":[<<"p%[1]d">>],"properties":{<<"p%[1]d":{"type":"string"}>>}}}`)},
	{"a long pattern", "apiextensions.k8s.io", "customresourcedefinitions", 2500, func(n int) string {
		return definitionOf(`{"type":"string","pattern":"` + strings.Repeat("a?", n) + `"}`)(n)
	}},
	{"a long rule", "apiextensions.k8s.io", "customresourcedefinitions", 100, func(n int) string {
		return definitionOf(`{"type":"integer","x-kubernetes-validations":[{"rule":"self > 0` + strings.Repeat(" && self > 0", n) + `"}]}`)(n)
	}},
	{"columns", "apiextensions.k8s.io", "customresourcedefinitions", 250, object(`{"metadata":{"name":"foos.example.com"},"spec":{"group":"example.com","scope":"Namespaced","names":{"plural":"foos","singular":"foo","kind":"Foo","listKind":"FooList","shortNames":[<<"s%[1]d">>]},
		"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object"}},"additionalPrinterColumns":[<<{"name":"c%[1]d","type":"string","jsonPath":".spec"}>>]}]}}`)},
	{"versions", "apiextensions.k8s.io", "customresourcedefinitions", 50, object(`{"metadata":{"name":"foos.example.com"},"spec":{"group":"example.com","scope":"Namespaced","names":{"plural":"foos","singular":"foo","kind":"Foo","listKind":"FooList"},
		"versions":[<<{"name":"v%[1]d","served":true,"storage":false,"schema":{"openAPIV3Schema":{"type":"object"}}}>>]}}`)},
}

// tolerated is how many times as much work four times as much may be. Sixteen would be quadratic; sorting, and memory that is touched for the first
// time, make it more than four.
const tolerated = 11

// TestTheWorkOnAnObjectGrowsWithItsLength holds what rows do to an object against what they do to one four times as long.
func TestTheWorkOnAnObjectGrowsWithItsLength(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // collecting is no work on the object
	for _, test := range large {
		t.Run(strings.ReplaceAll(test.name, " ", "_"), func(t *testing.T) {
			runtime.GC()
			row, version := rowOf(t, test.group, test.resource)
			measured := func(n int) time.Duration {
				obj, other := decoded(t, version, test.of(n)), decoded(t, version, test.of(n))
				other.SetLabels(map[string]string{"a": "b"})
				return work(func() { judge(row, version, obj, other) })
			}
			// What others on the machine do to a measurement only adds to it.
			one, four := measured(test.small), measured(4*test.small)
			for range 4 {
				if four <= tolerated*one {
					return
				}
				one, four = min(one, measured(test.small)), min(four, measured(4*test.small))
			}
			t.Errorf("%d are %s of work, four times as many %s", test.small, one, four)
		})
	}
}

func rowOf(t *testing.T, group, resource string) (*api.Resource, *api.Version) {
	t.Helper()
	for _, r := range api.Registered() {
		if r.Group == group && r.Name == resource {
			for i, v := range r.Versions {
				if v.ToHub == nil {
					return r, &r.Versions[i]
				}
			}
		}
	}
	t.Fatalf("there is no %s in %q", resource, group)
	return nil, nil
}

func decoded(t *testing.T, v *api.Version, text string) api.Object {
	t.Helper()
	o := v.New()
	if err := json.Unmarshal([]byte(text), o); err != nil {
		t.Fatalf("%v in %.300s", err, text)
	}
	return o
}

// judge does what a creation and an update do with objects.
func judge(row *api.Resource, v *api.Version, obj, other api.Object) {
	for _, o := range []api.Object{obj, other} {
		if row.Default != nil {
			row.Default(o)
		}
		if row.PrepareCreate != nil {
			row.PrepareCreate(o)
		}
		if row.Validate != nil {
			row.Validate(o)
		}
		if row.Warnings != nil {
			row.Warnings(o, nil)
		}
		if row.Canonicalize != nil {
			row.Canonicalize(o)
		}
	}
	if row.PrepareUpdate != nil {
		row.PrepareUpdate(other, obj)
	}
	if row.SpecChanged != nil {
		row.SpecChanged(other, obj)
	}
	if row.ValidateUpdate != nil {
		row.ValidateUpdate(other, obj)
	}
	if row.Warnings != nil {
		row.Warnings(other, obj)
	}
	if row.Cells != nil {
		row.Cells(obj, api.PrintOptions{})
	}
}

// work measures what a thread spends on something.
func work(do func()) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := spent()
	do()
	return spent() - before
}

func spent() time.Duration {
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &at); err != nil {
		panic(err) // every Linux has it
	}
	return time.Duration(at.Nano())
}
