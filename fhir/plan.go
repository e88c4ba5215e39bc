package fhir

import (
	"fmt"
	"slices"
	"strings"
)

// Limits of one save: what fits a record's body with room to spare.
const (
	SaveSizeMax      = 180 << 10 // bytes of JSON and full URLs; a larger resource stands in a save of its own
	SaveResourcesMax = 512
)

// Resolve says which patient of this box a reference text means: "urn:uuid:…", "Patient/id", a URL, "Patient?identifier=system|value".
// The answer is the box's own name for the patient, kept as it is.
type Resolve func(reference string) (patient string, ok bool)

// Import is a Bundle made into saves. Every resource of the Bundle is in exactly one save or refusal.
type Import struct {
	Patients []ImportPatient
	Saves    []Save // directory first, then patient by patient: what belongs to no encounter, then each encounter
	Refused  []Refusal
}

// ImportPatient is one person that the Bundle speaks of.
type ImportPatient struct {
	Known string   // what Resolve answered; "" for a person new to this box
	Names []string // reference texts by which files that come later can mean this person; empty for one whose Patient is elsewhere
}

// NoPatient is the Patient of a directory save.
const NoPatient = -1

// Save is what one record will hold: resources of one patient, or of none. They stay byte for byte as they came, their references too.
type Save struct {
	Patient   int    // index in Import.Patients, or NoPatient
	Encounter string // Name of the Encounter all belong to; "" for what belongs to none
	Part      int    // from 0, when a group did not fit one save
	Resources []Resource
}

// Plan groups the resources of b into saves. It changes nothing and reads only b and what resolve answers.
func Plan(b Bundle, resolve Resolve) Import {
	p := planner{resolve: resolve, names: map[string][]int{}, known: map[string]int{}}
	p.out.Refused = slices.Clone(b.Refused)
	p.read(b.Entries)
	for i := range p.items {
		if p.items[i].res.Type == "Patient" {
			p.addPatient(i)
		}
	}
	for i := range p.items {
		if o := p.owner(i); o.reason != "" {
			p.out.Refused = append(p.out.Refused, Refusal{p.items[i].label, o.reason})
		}
	}
	p.group()
	return p.out
}

// owner is whose a resource is. Exactly one of the three holds: a reason against it, a patient, or none (NoPatient).
type owner struct {
	patient int
	reason  string
}

var ownerNone = owner{patient: NoPatient}

// item is one entry with the references that decide where it goes.
type item struct {
	res       Resource
	label     string
	names     []string
	primary   []string // references that name its patient
	secondary []string // references to what may have a patient
	encounter string
	owner     *owner
	busy      bool // owner is being found: a reference leads back here
}

type planner struct {
	resolve Resolve
	items   []item
	names   map[string][]int // ReferenceNames -> items
	known   map[string]int   // Resolve's answer -> Patients
	out     Import
}

func (p *planner) read(entries []Entry) {
	p.items = make([]item, len(entries))
	for i, e := range entries {
		it := readItem(e)
		p.items[i] = it
		for _, name := range it.names {
			p.names[name] = append(p.names[name], i)
		}
	}
}

// The elements that name whose a resource is, and those that lead to something that says it (compartmentdefinition-patient).
var (
	primaryPaths   = [][]string{{"subject"}, {"patient"}, {"beneficiary"}, {"for"}, {"individual"}, {"candidate"}, {"securityContext"}}
	secondaryPaths = [][]string{{"target"}, {"participant", "actor"}, {"entity", "what"}, {"link", "target"}, {"actor"}, {"member", "entity"},
		{"focus"}, {"encounter"}, {"context"}, {"basedOn"}, {"partOf"}, {"request"}, {"item", "resource"}, {"prescription"}, {"author"}}
)

func readItem(e Entry) item {
	v := e.Resource.tree()
	it := item{res: e.Resource, names: namesOf(e.Resource, v), encounter: encounterOf(v)}
	it.label = e.Resource.Name()
	if it.label == e.Resource.Type {
		it.label = fmt.Sprintf("entry[%d] %s", e.Index, e.Resource.Type)
	}
	for _, path := range primaryPaths {
		it.primary = appendReferences(it.primary, v, path, e.Resource.Type)
	}
	for _, path := range secondaryPaths {
		it.secondary = appendReferences(it.secondary, v, path, e.Resource.Type)
	}
	if cond := e.IfNoneExist; cond != "" && e.Resource.Type == "Patient" {
		if c, ok := normalConditional("Patient?" + strings.TrimPrefix(cond, "?")); ok && !slices.Contains(it.names, c) {
			it.names = append(it.names, c)
		}
	}
	return it
}

const referencesMax = 5000 // of one kind in one resource

func appendReferences(out []string, v value, path []string, typ string) []string {
	if len(path) == 0 {
		for _, r := range v.list() {
			if text := referenceOf(r, "Patient"); text != "" && len(out) < referencesMax {
				out = append(out, text)
			}
		}
		return out
	}
	for _, one := range v.list() {
		out = appendReferences(out, one.get(path[0]), path[1:], typ)
	}
	return out
}

// addPatient gives item i, a Patient, its place in Patients: that of an earlier entry with the same full URL or id, of the patient that
// the box knows by one of its names, or a new one.
func (p *planner) addPatient(i int) {
	it := &p.items[i]
	for _, name := range it.names {
		for _, j := range p.names[name] {
			if j < i && p.items[j].res.Type == "Patient" && p.items[j].owner != nil && !strings.Contains(name, "?") {
				it.owner = p.items[j].owner
				p.addNames(it.owner.patient, it.names)
				return
			}
		}
	}
	known := ""
	for _, name := range it.names {
		k, ok := p.resolve(name)
		if ok && known != "" && k != known {
			it.owner = &owner{NoPatient, "its names mean more than one patient of this box"}
			return
		}
		if ok {
			known = k
		}
	}
	n := p.patient(known)
	it.owner = &owner{patient: n}
	p.addNames(n, it.names)
}

func (p *planner) addNames(n int, names []string) {
	if n < 0 {
		return
	}
	for _, name := range names {
		if list := &p.out.Patients[n].Names; !slices.Contains(*list, name) {
			*list = append(*list, name)
		}
	}
}

// patient finds or adds the patient whom the box calls known; with "" it adds a new one.
func (p *planner) patient(known string) int {
	if n, ok := p.known[known]; ok && known != "" {
		return n
	}
	p.out.Patients = append(p.out.Patients, ImportPatient{Known: known})
	n := len(p.out.Patients) - 1
	if known != "" {
		p.known[known] = n
	}
	return n
}

// owner finds whose item i is, once.
func (p *planner) owner(i int) owner {
	it := &p.items[i]
	if it.owner != nil {
		return *it.owner
	}
	if it.busy {
		return ownerNone
	}
	it.busy = true
	o := p.find(it)
	it.busy = false
	it.owner = &o
	return o
}

func (p *planner) find(it *item) owner {
	found := ownerNone
	if it.res.leftOut() {
		return owner{NoPatient, "it is no record: it says what was left out where the file was made"}
	}
	for _, ref := range it.primary {
		o := p.follow(ref, true)
		if o.reason != "" {
			return o
		}
		if o.patient != NoPatient && found.patient != NoPatient && o.patient != found.patient {
			return owner{NoPatient, "speaks of more than one patient"}
		}
		if o.patient != NoPatient {
			found = o
		}
	}
	if found.patient != NoPatient || it.res.Type == "Patient" {
		return found
	}
	return p.findBySecondary(it)
}

func (p *planner) findBySecondary(it *item) owner {
	found := ownerNone
	for _, ref := range it.secondary {
		o := p.follow(ref, false)
		if o.reason != "" || o.patient == NoPatient {
			continue
		}
		if found.patient != NoPatient && o.patient != found.patient {
			return owner{NoPatient, "speaks of more than one patient"}
		}
		found = o
	}
	switch {
	case found.patient != NoPatient && it.res.Type == "Group":
		return owner{NoPatient, "lists patients and belongs to none of them"}
	case found.patient == NoPatient && !directoryType(it.res.Type) && !p.aboutDirectory(it):
		return owner{NoPatient, "names no patient"}
	}
	return found
}

// aboutDirectory tells a resource whose subject or target is in the directory: a Provenance of an Organization.
func (p *planner) aboutDirectory(it *item) bool {
	for _, ref := range slices.Concat(it.primary, it.secondary) {
		j, ok := p.lookup(ref)
		if ok && directoryType(p.items[j].res.Type) || typeOf(ref) != "" && directoryType(typeOf(ref)) {
			return true
		}
	}
	return false
}

// follow finds the patient behind a reference. must is set for elements that name a patient: what cannot be resolved is a reason then.
func (p *planner) follow(ref string, must bool) owner {
	if strings.HasPrefix(ref, "#") {
		if must {
			return owner{NoPatient, "its patient is contained in it and has no record here"}
		}
		return ownerNone
	}
	if many := p.candidates(ref); len(many) > 0 {
		first := p.owner(many[0])
		for _, j := range many[1:] {
			if p.owner(j) != first {
				return owner{NoPatient, "its patient is named by more than one entry"}
			}
		}
		return first
	}
	if typ := typeOf(ref); typ != "" && typ != "Patient" {
		return ownerNone
	}
	for _, form := range ReferenceForms(ref) {
		if known, ok := p.resolve(form); ok {
			return owner{patient: p.patient(known)}
		}
	}
	if must {
		return owner{NoPatient, "its patient " + ref + " is neither in this file nor on this box"}
	}
	return ownerNone
}

// candidates are the items that a reference can mean: all that bear the first of its forms that anything bears.
func (p *planner) candidates(ref string) []int {
	for _, form := range ReferenceForms(ref) {
		if list := p.names[form]; len(list) > 0 {
			return list
		}
	}
	return nil
}

func (p *planner) lookup(ref string) (int, bool) {
	list := p.candidates(ref)
	if len(list) == 0 {
		return 0, false
	}
	return list[0], true
}

// typeOf is the resource type that a reference text tells; "" for urn:uuid and the like.
func typeOf(ref string) string {
	forms := ReferenceForms(ref)
	if len(forms) == 0 {
		return ""
	}
	typ, _, ok := strings.Cut(forms[len(forms)-1], "?")
	if !ok {
		typ, _, _ = strings.Cut(typ, "/")
	}
	if KnownType(typ) {
		return typ
	}
	return ""
}

var directoryTypes = setOf(`ActivityDefinition CapabilityStatement CatalogEntry ChargeItemDefinition CodeSystem CompartmentDefinition
ConceptMap Device DeviceDefinition DeviceMetric Endpoint EventDefinition Group HealthcareService ImplementationGuide InsurancePlan
Library Location Measure Medication MedicationKnowledge MessageDefinition NamingSystem ObservationDefinition OperationDefinition
Organization OrganizationAffiliation PlanDefinition Practitioner PractitionerRole Questionnaire Schedule SearchParameter Slot
SpecimenDefinition StructureDefinition StructureMap Substance TerminologyCapabilities ValueSet`)

// directoryType tells the types that need no patient: places, people who work there, medicines, definitions.
func directoryType(typ string) bool { return directoryTypes[typ] }

// group fills Saves from the items that have an owner.
func (p *planner) group() {
	type key struct{ patient, encounter int }
	groups := map[key][]int{}
	var order []key
	for i := range p.items {
		if p.items[i].owner.reason != "" {
			continue
		}
		k := key{p.items[i].owner.patient, p.encounter(i)}
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], i)
	}
	slices.SortStableFunc(order, func(a, b key) int {
		if a.patient != b.patient {
			return a.patient - b.patient
		}
		return a.encounter - b.encounter
	})
	for _, k := range order {
		name, lead := "", "Patient"
		if k.encounter >= 0 {
			name, lead = p.items[k.encounter].label, "Encounter"
		}
		p.split(Save{Patient: k.patient, Encounter: name}, groups[k], lead)
	}
}

// encounter is the item of the Encounter that item i belongs to, or -1.
func (p *planner) encounter(i int) int {
	it := &p.items[i]
	switch {
	case it.res.Type == "Encounter":
		return i
	case it.encounter == "" || it.owner.patient == NoPatient:
		return -1
	}
	j, ok := p.lookup(it.encounter)
	if !ok || p.items[j].res.Type != "Encounter" || p.items[j].owner.reason != "" || p.items[j].owner.patient != it.owner.patient {
		return -1
	}
	return j
}

// split appends s with the resources of members, those of type lead first, as as many saves as they need.
func (p *planner) split(s Save, members []int, lead string) {
	slices.SortStableFunc(members, func(a, b int) int {
		return b2i(p.items[b].res.Type == lead) - b2i(p.items[a].res.Type == lead)
	})
	size := 0
	for _, i := range members {
		r := p.items[i].res
		n := len(r.JSON) + len(r.FullURL)
		if len(s.Resources) > 0 && (size+n > SaveSizeMax || len(s.Resources) == SaveResourcesMax) {
			p.out.Saves = append(p.out.Saves, s)
			s.Resources, size = nil, 0
			s.Part++
		}
		s.Resources = append(s.Resources, r)
		size += n
	}
	p.out.Saves = append(p.out.Saves, s)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
