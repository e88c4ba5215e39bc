package web

import (
	"net/url"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
)

func showDetails(q *request) error {
	view, err := q.clinic.Open(q.r.Context(), q.session, q.r.PathValue("patient"))
	if err != nil {
		return err
	}
	if view.Chart.Patient == nil {
		return ErrNotFound
	}
	if view.Chart.Patient.Conflict {
		return q.redirect("/patient/" + url.PathEscape(view.ID) + "/conflict")
	}
	f, err := q.newForm(detailsValues(fhir.RegistrationOf(view.Chart.Patient.Resource())))
	if err != nil {
		return err
	}
	base := encodeRefs(view.Chart.Patient.Refs())
	if f.Value("base") != "" {
		base = f.Value("base") // a draft amends what it was typed over
	}
	return q.detailsPage(f, detailsBody{ID: view.ID, Base: base})
}

// saveDetails stores changed details in place of the versions the form was made from.
func saveDetails(q *request) error {
	id, err := q.postedFormID()
	if err != nil {
		return err
	}
	patientID := q.r.PathValue("patient")
	base, err := parseRefs(q.r.PostForm.Get("base"))
	if err != nil {
		return err
	}
	body := detailsBody{ID: patientID, Base: encodeRefs(base)}
	r, problems := q.readRegistration()
	problems = append(problems, q.fieldProblems(r.Validate(), "details.")...)
	if len(problems) > 0 {
		return q.detailsPage(q.postedForm(id, problems), body)
	}
	if err := q.clinic.AmendPatient(q.r.Context(), q.session, patientID, id, r, base); err != nil {
		return q.detailsRefused(err, id, body)
	}
	q.drafts.done(q.session.StaffID, q.r.URL.Path, id)
	return q.redirect("/patient/" + url.PathEscape(patientID) + "?done=changed")
}

// conflictBody shows the versions of a person's details side by side.
type conflictBody struct {
	ID       string
	Who      personLine
	Base     string // all versions: the choice replaces them
	Versions []detailsVersion
}

type detailsVersion struct {
	Number       int
	Ref, FormID  string
	Author, When string
	Badge        badge
	Fields       []versionField
}

type versionField struct {
	Label, Value string
	Differs      bool
}

func showConflict(q *request) error {
	body, err := q.conflictBody()
	if err != nil {
		return err
	}
	if body.Versions == nil {
		return q.redirect("/patient/" + url.PathEscape(body.ID))
	}
	return q.show("conflict", q.newPage("", "conflict.title", body))
}

// conflictBody opens the chart; Versions is nil when nothing is in conflict any more.
func (q *request) conflictBody() (conflictBody, error) {
	view, err := q.clinic.Open(q.r.Context(), q.session, q.r.PathValue("patient"))
	if err != nil {
		return conflictBody{}, err
	}
	body := conflictBody{ID: view.ID, Who: q.person(view.Row)}
	line := view.Chart.Patient
	if line == nil || !line.Conflict {
		return body, nil
	}
	body.Base = encodeRefs(line.Refs())
	for _, h := range line.Heads {
		if h.Op != chart.OpPut {
			continue
		}
		id, err := q.newFormID()
		if err != nil {
			return conflictBody{}, err
		}
		body.Versions = append(body.Versions, detailsVersion{
			Number: len(body.Versions) + 1, Ref: h.Ref.String(), FormID: id, Author: h.Author, When: formatTime(q.words, h.At.In(q.opts.Location)),
			Badge: badgeOf(q.words, h.State, ridText(h.RID)), Fields: q.versionFields(h.Resource.Patient()),
		})
	}
	markDifferences(body.Versions)
	return body, nil
}

func (q *request) versionFields(p fhir.Patient) []versionField {
	facts := q.detailFacts(p)
	fields := make([]versionField, len(facts))
	for i, f := range facts {
		fields[i] = versionField{Label: f.Label, Value: f.Value}
	}
	return fields
}

// markDifferences marks each field that is not the same in all versions.
func markDifferences(versions []detailsVersion) {
	if len(versions) == 0 {
		return
	}
	for i := range versions[0].Fields {
		differs := false
		for _, v := range versions {
			differs = differs || v.Fields[i].Value != versions[0].Fields[i].Value
		}
		for _, v := range versions {
			v.Fields[i].Differs = differs
		}
	}
}

// resolveConflict keeps one version in place of all, or opens the form with it.
func resolveConflict(q *request) error {
	id, err := q.postedFormID()
	if err != nil {
		return err
	}
	base, err := parseRefs(q.r.PostForm.Get("base"))
	if err != nil {
		return err
	}
	ref, err := chart.ParseRef(q.r.PostForm.Get("version"))
	if err != nil {
		return errBadForm
	}
	r, err := q.registrationAt(ref)
	if err != nil {
		return err
	}
	patientID := q.r.PathValue("patient")
	if q.value("step") == "edit" {
		return q.detailsPage(form{ID: id, Values: detailsValues(r)}, detailsBody{ID: patientID, Base: encodeRefs(base)})
	}
	if err := q.clinic.AmendPatient(q.r.Context(), q.session, patientID, id, r, base); err != nil {
		return err
	}
	return q.redirect("/patient/" + url.PathEscape(patientID) + "?done=resolved")
}

// registrationAt reads the details as one version has them.
func (q *request) registrationAt(ref chart.Ref) (fhir.Registration, error) {
	view, err := q.clinic.Open(q.r.Context(), q.session, q.r.PathValue("patient"))
	if err != nil {
		return fhir.Registration{}, err
	}
	if view.Chart.Patient == nil {
		return fhir.Registration{}, ErrNotFound
	}
	l := view.Chart.Patient
	for _, list := range [][]chart.Version{l.Heads, l.Past} {
		for _, v := range list {
			if v.Ref == ref && v.Op == chart.OpPut {
				return fhir.RegistrationOf(v.Resource), nil
			}
		}
	}
	return fhir.Registration{}, ErrNotFound
}
