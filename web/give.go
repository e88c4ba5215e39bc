package web

// give gives a patient to a field device, or takes it back.
func give(q *request) error {
	patient, device, on := q.r.PathValue("patient"), q.value("device"), q.value("give")
	if device == "" || len(device) > deviceTextMax || on != "0" && on != "1" {
		return errBadForm
	}
	if err := q.clinic.GiveTo(q.r.Context(), q.session, patient, device, on == "1"); err != nil {
		return err
	}
	return q.redirect("/patient/" + patient + "?done=given#devices")
}

const deviceTextMax = 64
