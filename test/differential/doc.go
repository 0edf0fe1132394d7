// Command differential sends the same requests to Clipper and to a kube-apiserver of the same version, and reports where the answers differ.
//
//	differential -clipper bin/clipper -upstream out/bench [-seed n] [-kinds re] [-fields re] [-max n]
//
// Both servers run alone, without controllers, so that nothing but the requests changes what they hold. Requests are made from the
// schemas that upstream publishes, with a seed: starting from the objects in fixtures/, every field of every kind is left out, emptied,
// given values of other types, out of its range and changed on update, by each kind of patch and through subresources. Further scripts
// try what goes beyond one field: options of lists and watches, formats (protobuf is compared once it's decoded), selectors, preconditions,
// managers that apply what others own, the directives of strategic merge patches, the operations of JSON patches.
//
// What both have counted of all that is compared, too: the series of the API server's metrics, with their labels.
//
// Then Clipper is started anew on upstream's database, and objects are put there that no server would store, because their values are refused: those of
// built-in kinds field by field, also at versions that they aren't served at, and those of a custom resource whose schema says all that schemas
// can. They are read in several forms and at each version. Updates that leave alone what is wrong, and others that don't, show that both let
// pass the same. What custom resources have no paths or media types for is asked for, too.
// Of these only dry runs are sent.
//
// What must differ (UIDs, times, resourceVersions, allocated addresses) is made equal before answers are compared. What else differs is
// reported in groups, by kind, field and sort of difference. accepted.yaml lists those that are meant to be, each with its reason; the
// program fails if there are others.
package main
