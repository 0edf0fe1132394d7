// Package check has the small pieces of which the validation of kinds is made.
//
//	func validateQuota(q *Quota, path *field.Path) (e check.Errors) {
//		e.Messages(path.Child("name"), q.Name, validation.IsDNS1123Label(q.Name))
//		e.NonNegative(path.Child("limit"), q.Limit)
//		check.OneOf(&e, path.Child("mode"), q.Mode, "Hard", "Soft")
//		e.Add(validateScope(q.Scope, path.Child("scope"))...)
//		return e
//	}
//
// What flows in is a value and its path; what flows out is a list of field errors in the words of upstream.
package check
