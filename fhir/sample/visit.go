package sample

import (
	"strconv"
	"time"

	"github.com/healthpost/healthpost/fhir"
)

// complaint is how one problem usually looks.
type complaint struct {
	problem    string
	share      int // of 100 visits of the age group
	fever      bool
	fast       bool // fast breathing
	treatments []string
	advice     string
	notes      []string
}

var childComplaints = []complaint{
	{"fever", 18, true, false, []string{"Paracetamol 120 mg, 3 times a day, 3 days"}, "Plenty to drink. Come back at once if worse.",
		[]string{"Hot since yesterday.", "Fever for two days, feeds well.", "Fever at night, plays in the day."}},
	{"malaria", 24, true, false, []string{"Artemether-lumefantrine 20/120 mg, 1 tablet twice a day, 3 days",
		"Artemether-lumefantrine 20/120 mg, 2 tablets twice a day, 3 days"}, "Finish all tablets. Sleep under a net.",
		[]string{"Fever and chills for two days.", "Vomited once on the way.", "Third fever this season."}},
	{"cough", 18, false, false, []string{"Warm fluids, no antibiotic"}, "Keep warm, breastfeed often.",
		[]string{"Runny nose, no chest indrawing.", "Cough for four days."}},
	{"pneumonia", 10, true, true, []string{"Amoxicillin 250 mg dispersible, 2 tablets twice a day, 5 days",
		"Amoxicillin 250 mg dispersible, 1 tablet twice a day, 5 days"}, "Finish the medicine. Back in 2 days.",
		[]string{"Fast breathing counted twice.", "Chest indrawing seen, no stridor."}},
	{"diarrhoea", 14, false, false, []string{"ORS after each loose stool; zinc 20 mg once a day, 10 days"}, "More to drink than usual.",
		[]string{"Five loose stools today, no blood.", "Sunken eyes not seen, drinks eagerly."}},
	{"malnutrition", 6, false, false, []string{"Ready-to-use therapeutic food, 2 sachets a day, 7 days"}, "Give only to this child.",
		[]string{"Appetite test passed.", "No oedema."}},
	{"skin", 5, false, false, []string{"Benzyl benzoate lotion, 3 nights"}, "Treat the whole household.", []string{"Itching at night, siblings too."}},
	{"ear", 5, false, false, []string{"Amoxicillin 250 mg dispersible, 2 tablets twice a day, 5 days"}, "Keep the ear dry.",
		[]string{"Pulls at the left ear.", "Discharge for a week."}},
}

var adultComplaints = []complaint{
	{"malaria", 25, true, false, []string{"Artemether-lumefantrine 20/120 mg, 4 tablets twice a day, 3 days"}, "Finish all tablets.",
		[]string{"Headache and joint pain.", "Fever for three days."}},
	{"hypertension", 15, false, false, []string{"Amlodipine 5 mg once a day, 28 days", "Hydrochlorothiazide 25 mg once a day, 28 days"},
		"Less salt. Come every month.", []string{"No chest pain.", "Ran out of tablets last week."}},
	{"diabetes", 6, false, false, []string{"Metformin 500 mg twice a day, 28 days"}, "Check your feet every day.", []string{"Thirst is less."}},
	{"pain", 16, false, false, []string{"Paracetamol 1 g, 3 times a day, 3 days", "Ibuprofen 400 mg, 3 times a day, 3 days"}, "Rest the back.",
		[]string{"Back pain after field work.", "Knee pain for a month."}},
	{"cough", 14, false, false, []string{"Warm fluids, no antibiotic"}, "Come back if blood in sputum.", []string{"Cough for five days, no weight loss."}},
	{"wound", 8, false, false, []string{"Wound cleaned and dressed; tetanus toxoid given"}, "Keep dry, new dressing in 2 days.",
		[]string{"Cut by a hoe on the foot.", "Fell from a bicycle."}},
	{"diarrhoea", 6, false, false, []string{"ORS after each loose stool"}, "Boil drinking water.", []string{"Three loose stools, no blood."}},
	{"checkup", 10, false, false, nil, "", []string{"Well.", "Wants a form for school."}},
}

func (g generator) complaint(list []complaint) complaint {
	draw := g.IntN(100)
	for _, c := range list {
		if draw -= c.share; draw < 0 {
			return c
		}
	}
	return list[len(list)-1]
}

// visit fills in one visit of a person of this age in months.
func (g generator) visit(at time.Time, age int) fhir.Visit {
	list := adultComplaints
	if age < 60 {
		list = childComplaints
	}
	c := g.complaint(list)
	v := fhir.Visit{At: at, Problem: c.problem, Advice: c.advice, Temperature: tenths(362 + g.IntN(12)), Weight: g.weight(age)}
	if c.fever {
		v.Temperature = tenths(379 + g.IntN(19))
	}
	if len(c.treatments) > 0 {
		v.Treatment = g.pick(c.treatments)
	}
	if g.chance(60) {
		v.Note = g.pick(c.notes)
	}
	g.measure(&v, c, age)
	if c.problem == "malaria" {
		v.RDT = "positive"
	} else if c.fever {
		v.RDT = "negative"
	}
	if c.fast && g.chance(15) {
		v.DangerSigns = []string{fhir.DangerSigns[g.IntN(len(fhir.DangerSigns))].Code}
		v.Urgent = true
	}
	switch c.problem {
	case "pneumonia", "wound":
		v.ReturnIn = "2"
	case "malnutrition":
		v.ReturnIn = "7"
	case "hypertension", "diabetes":
		v.ReturnIn = "28"
	}
	return v
}

func (g generator) measure(v *fhir.Visit, c complaint, age int) {
	if age < 60 {
		v.Breaths = strconv.Itoa(24 + g.IntN(14))
		if c.fast {
			v.Breaths = strconv.Itoa(46 + g.IntN(20))
		}
		v.MUAC = strconv.Itoa(126 + g.IntN(34))
		if c.problem == "malnutrition" {
			v.MUAC = strconv.Itoa(104 + g.IntN(19))
		}
		if g.chance(40) {
			v.Height = tenths(500 + age*130/12 + g.IntN(60))
		}
		return
	}
	if age >= 15*12 {
		v.Systolic, v.Diastolic = strconv.Itoa(104+g.IntN(32)), strconv.Itoa(64+g.IntN(22))
		if c.problem == "hypertension" {
			v.Systolic, v.Diastolic = strconv.Itoa(142+g.IntN(36)), strconv.Itoa(88+g.IntN(20))
		}
	}
	if g.chance(50) {
		v.Pulse = strconv.Itoa(62 + g.IntN(40))
	}
	if c.problem == "cough" || g.chance(15) {
		v.SpO2 = strconv.Itoa(93 + g.IntN(7))
	}
}

// weight is a plausible body weight in kg.
func (g generator) weight(age int) string {
	switch {
	case age < 12:
		return tenths(34 + age*5 + g.IntN(18))
	case age < 15*12:
		return tenths(88 + (age-12)*2 + g.IntN(40))
	}
	return tenths(480 + g.IntN(320))
}

// tenths writes n tenths as decimal text: 378 is "37.8".
func tenths(n int) string { return strconv.Itoa(n/10) + "." + strconv.Itoa(n%10) }
