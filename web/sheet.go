package web

import "errors"

// Sheets are pages meant for paper. What a screen needs besides (menus, explanations, the patient's
// name) is not printed.

// proofBody is the page with the proof of one record.
type proofBody struct {
	ProofPage
	QR qrCode
}

func showProof(q *request) error {
	proof, err := q.clinic.Proof(q.r.Context(), q.session, q.r.PathValue("rid"))
	if err != nil {
		return err
	}
	code, err := newQR(proof.Payload)
	if err != nil {
		return err
	}
	p := q.newPage("", "proof.title", proofBody{proof, code})
	p.Sheet = true
	return q.show("proof", p)
}

// rootBody is the weekly sheet.
type rootBody struct {
	RootPage
	QR qrCode
}

func showRoot(q *request) error {
	root, err := q.clinic.RootSheet(q.r.Context(), q.session)
	if errors.Is(err, ErrNotConfirmed) {
		status, _ := statusOf(err)
		q.fail(status, "error.no_root")
		return nil
	}
	if err != nil {
		return err
	}
	code, err := newQR(root.Line)
	if err != nil {
		return err
	}
	p := q.newPage("links", "root.title", rootBody{root, code})
	p.Sheet = true
	return q.show("root", p)
}
