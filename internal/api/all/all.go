// Package all links every kind into a program: importing it fills the table that api.Registered returns.
package all

import (
	_ "clipper.dev/clipper/internal/api/admissionregistration"
	_ "clipper.dev/clipper/internal/api/apiextensions" // each registers its rows
	_ "clipper.dev/clipper/internal/api/apiregistration"
	_ "clipper.dev/clipper/internal/api/apps"
	_ "clipper.dev/clipper/internal/api/authentication"
	_ "clipper.dev/clipper/internal/api/authorization"
	_ "clipper.dev/clipper/internal/api/autoscaling"
	_ "clipper.dev/clipper/internal/api/batch"
	_ "clipper.dev/clipper/internal/api/certificates"
	_ "clipper.dev/clipper/internal/api/coordination"
	_ "clipper.dev/clipper/internal/api/core"
	_ "clipper.dev/clipper/internal/api/discovery"
	_ "clipper.dev/clipper/internal/api/events"
	_ "clipper.dev/clipper/internal/api/flowcontrol"
	_ "clipper.dev/clipper/internal/api/metrics"
	_ "clipper.dev/clipper/internal/api/networking"
	_ "clipper.dev/clipper/internal/api/node"
	_ "clipper.dev/clipper/internal/api/policy"
	_ "clipper.dev/clipper/internal/api/rbac"
	_ "clipper.dev/clipper/internal/api/resource"
	_ "clipper.dev/clipper/internal/api/scheduling"
	_ "clipper.dev/clipper/internal/api/storage"
)
