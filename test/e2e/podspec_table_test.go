package e2e

// seenElsewhere names the tests that observe what TestEveryFieldOfAPodHasItsEffect doesn't.
const seenElsewhere = `
internal/kubelet/lifecycle.TestRestartRules
	containers[].restartPolicy *[].restartPolicyRules[].*
internal/kubelet/lifecycle.TestGracePeriods
	terminationGracePeriodSeconds *[].livenessProbe.terminationGracePeriodSeconds *[].startupProbe.terminationGracePeriodSeconds
internal/kubelet/lifecycle.TestConditions
	readinessGates[].conditionType
internal/kubelet/probes.TestReadinessFollowsThresholds
	*[].livenessProbe.successThreshold *[].readinessProbe.successThreshold *[].startupProbe.successThreshold
	*[].livenessProbe.failureThreshold *[].readinessProbe.failureThreshold *[].startupProbe.failureThreshold
internal/kubelet/probes.TestInitialDelayIsWaitedFor
	*[].livenessProbe.initialDelaySeconds *[].readinessProbe.initialDelaySeconds *[].startupProbe.initialDelaySeconds
internal/kubelet/probes.TestPeriodsAndTimeoutsAreKept
	*[].livenessProbe.timeoutSeconds *[].readinessProbe.timeoutSeconds *[].startupProbe.timeoutSeconds
	*[].livenessProbe.periodSeconds *[].readinessProbe.periodSeconds *[].startupProbe.periodSeconds
internal/kubelet/images.TestWhoMayUseAnImageThatIsThere
	imagePullSecrets[].name
internal/network.TestHostPorts
	*[].ports[].hostPort *[].ports[].hostIP *[].ports[].protocol
internal/runtime.TestAttach
	*[].stdin *[].stdinOnce
internal/runtime.TestLocalhostProfile
	*[].securityContext.seccompProfile.localhostProfile securityContext.seccompProfile.localhostProfile
internal/kubelet/volumes.TestGroupOwnership
	securityContext.fsGroupChangePolicy
internal/kubelet/cgroups.TestPodLimits
	resources.limits{}
internal/scheduler.TestAPodGoesWhereItsDevicesAre
	resourceClaims[].name resourceClaims[].resourceClaimName
internal/controller/resourceclaim.TestTheNameOfAGeneratedClaim
	resourceClaims[].resourceClaimTemplateName
internal/kubelet/dra.TestAClaimIsPreparedOnceForAllWhoShareItAndSurvivesTheKubelet
	*[].resources.claims[].* resources.claims[].*
internal/scheduler.TestCountsOfOtherPodsStayTrue
	topologySpreadConstraints[].nodeTaintsPolicy
internal/scheduler.TestRulesAboutOtherPods
	topologySpreadConstraints[].topologyKey
internal/scheduler.TestPreemption
	priority preemptionPolicy
internal/admission/plugins.TestPriority
	priorityClassName
internal/controller/tainteviction.TestWhenAPodMustGo
	tolerations[].tolerationSeconds
internal/kubelet/volumes/csi.TestAnInlineVolumeKnowsItsPod
	volumes[].csi.driver volumes[].csi.volumeAttributes{} volumes[].csi.nodePublishSecretRef.name
internal/kubelet/volumes/csi.TestWhoOwnsTheContents
	volumes[].csi.fsType volumes[].csi.readOnly
internal/controller/ephemeralvolume.TestTheClaimOfAnEphemeralVolumeBelongsToItsPod
	volumes[].ephemeral.volumeClaimTemplate.spec.*
`

// noEffect tells why the effects of fields can't be seen.
const noEffect = `
It is deprecated, and an alias of serviceAccountName.
	serviceAccount
Kubernetes refuses it in an ephemeral container, and so does Clipper: refused() tries it.
	ephemeralContainers[].ports[].* ephemeralContainers[].resources.* ephemeralContainers[].resizePolicy[].*
	ephemeralContainers[].livenessProbe.* ephemeralContainers[].readinessProbe.* ephemeralContainers[].startupProbe.*
	ephemeralContainers[].lifecycle.* ephemeralContainers[].restartPolicy ephemeralContainers[].restartPolicyRules[].*
	ephemeralContainers[].volumeMounts[].subPath ephemeralContainers[].volumeMounts[].subPathExpr
Kubernetes refuses it in a readiness probe.
	containers[].readinessProbe.terminationGracePeriodSeconds initContainers[].readinessProbe.terminationGracePeriodSeconds
Kubernetes never implemented it: a hook of this kind fails.
	containers[].lifecycle.postStart.tcpSocket.* containers[].lifecycle.preStop.tcpSocket.*
	initContainers[].lifecycle.postStart.tcpSocket.* initContainers[].lifecycle.preStop.tcpSocket.*
Its feature gate (ContainerStopSignals, GenericWorkload, ClusterTrustBundleProjection, PodCertificateRequest) is off, as it is by default in Kubernetes: the field is dropped.
	*[].lifecycle.stopSignal schedulingGroup.podGroupName volumes[].projected.sources[].clusterTrustBundle.* volumes[].projected.sources[].podCertificate.*
It is for nodes that run Windows.
	securityContext.windowsOptions.* *[].securityContext.windowsOptions.*
The tests' kernels have no SELinux.
	securityContext.seLinuxOptions.* *[].securityContext.seLinuxOptions.* securityContext.seLinuxChangePolicy
The tests' kernels have no AppArmor.
	securityContext.appArmorProfile.* *[].securityContext.appArmorProfile.*
The tests' kernels have no NFS.
	volumes[].nfs.*
The plugin is gone from Kubernetes too: such a pod waits.
	volumes[].glusterfs.* volumes[].rbd.* volumes[].cephfs.* volumes[].flocker.* volumes[].quobyte.* volumes[].photonPersistentDisk.*
	volumes[].scaleIO.* volumes[].storageos.* volumes[].gitRepo.*
It is a cloud's volume, which Kubernetes leaves to the cloud's CSI driver.
	volumes[].gcePersistentDisk.* volumes[].awsElasticBlockStore.* volumes[].cinder.* volumes[].azureFile.* volumes[].azureDisk.*
	volumes[].vsphereVolume.* volumes[].portworxVolume.*
Clipper has no plugin for hardware of this kind: such a pod waits, and its events say so.
	volumes[].iscsi.* volumes[].fc.* volumes[].flexVolume.*
Kubernetes refuses metadata of a template but labels and annotations.
	volumes[].ephemeral.volumeClaimTemplate.metadata.*
`
