-- The clinic's half of the data set `big`, beside pgbench's tables: patients, appointments and notes.
-- psql variable `patients` is how many of the first there are; all else follows from it. The same
-- every time: setseed, and no plan here is parallel, since random() is not.
-- The text compresses as English does, about three to one, not like pgbench's blanks.
\set ON_ERROR_STOP on
SET max_parallel_workers_per_gather = 0;
SET synchronous_commit = off;
SELECT setseed(0.42) \g /dev/null

CREATE SCHEMA clinic;
CREATE FUNCTION clinic.words() RETURNS text[] IMMUTABLE LANGUAGE sql AS $$
SELECT string_to_array('the and of with to in was is for on no at left right patient skin reports '
    'denies mild moderate severe since days weeks months review follow up lesion rash itching dry '
    'scaly plaque papule nodule macule erythema face scalp neck trunk arm forearm hand palm back '
    'thigh knee shin foot sole nail hair bilateral symmetrical diffuse localised chronic acute '
    'recurrent improved worse unchanged stable advised continue stop start taper increase reduce '
    'dose twice daily nightly weekly cream ointment lotion gel shampoo tablet capsule injection '
    'topical oral systemic steroid emollient antifungal antibiotic antihistamine retinoid '
    'hydrocortisone betamethasone clobetasol mometasone tacrolimus calcipotriol adapalene tretinoin '
    'isotretinoin doxycycline minocycline azithromycin fluconazole terbinafine itraconazole '
    'methotrexate ciclosporin azathioprine dupilumab adalimumab cetirizine loratadine hydroxyzine '
    'eczema psoriasis acne rosacea melasma vitiligo urticaria tinea impetigo folliculitis cellulitis '
    'alopecia keratosis naevus melanoma carcinoma basal squamous wart verruca scabies lichen planus '
    'pemphigus pemphigoid lupus scleroderma dermatitis contact atopic seborrhoeic biopsy excision '
    'cryotherapy curettage cautery phototherapy laser peel patch test swab culture microscopy blood '
    'count liver kidney function glucose thyroid ferritin vitamin pressure pulse weight height '
    'allergy penicillin latex nickel fragrance family history mother father sibling smoker alcohol '
    'occupation exposure sun protection travel pregnancy breastfeeding contraception consent '
    'photograph explained understood agreed leaflet given letter sent general practitioner referral '
    'urgent routine clinic theatre nurse dressing suture removed healed infected discharge swelling '
    'tender warm margin clear incomplete histology confirmed pending awaited discussed meeting '
    'because although however therefore after before during between without further again still '
    'not yet only more less than when if or but this that there has had have been will may should',
    ' ') $$;
-- n words, the first of the list far more often than the last, and now and then a measured value.
CREATE FUNCTION clinic.prose(n int) RETURNS text VOLATILE LANGUAGE sql AS $$
SELECT string_agg(CASE WHEN random() < 0.1 THEN trunc(random() * 100000)::text
                       ELSE w[1 + trunc(cardinality(w) * random() ^ 1.5)::int] END, ' ')
  FROM generate_series(1, n), (SELECT clinic.words()) v (w) $$;

CREATE TABLE clinic.patients (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, mrn text NOT NULL UNIQUE, name text NOT NULL,
    born date NOT NULL, phone text NOT NULL, history jsonb NOT NULL, created_at timestamptz NOT NULL);
INSERT INTO clinic.patients (mrn, name, born, phone, history, created_at)
SELECT upper(substr(md5(g::text), 1, 10)) || g, initcap(clinic.prose(2 + g % 2)),
       DATE '1935-01-01' + trunc(random() * 30000)::int,
       '+91' || trunc(random() * 9e9 + 1e9)::bigint,
       jsonb_build_object('blood', (ARRAY['A+', 'B+', 'AB+', 'O+', 'O-'])[1 + trunc(random() * 5)::int],
           'allergies', string_to_array(clinic.prose(g % 4 + 1), ' '), 'smoker', g % 7 = 0,
           'visits', g % 40, 'bmi', round((18 + random() * 20)::numeric, 1)),
       TIMESTAMPTZ '2015-01-01 00:00+00' + g * INTERVAL '17 minutes' + random() * INTERVAL '9 minutes'
  FROM generate_series(1, :patients) g;

CREATE TABLE clinic.appointments (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, patient_id int NOT NULL, at timestamptz NOT NULL,
    minutes smallint NOT NULL, status text NOT NULL, fee numeric(10, 2) NOT NULL, reason text NOT NULL);
INSERT INTO clinic.appointments (patient_id, at, minutes, status, fee, reason)
SELECT 1 + trunc(random() * :patients)::int,
       TIMESTAMPTZ '2018-01-01 00:00+00' + g * INTERVAL '3 minutes' + random() * INTERVAL '99 days',
       5 * (1 + g % 9), (ARRAY['booked', 'arrived', 'seen', 'missed'])[1 + trunc(random() * 4)::int],
       (random() * 5000)::numeric(10, 2), clinic.prose(5)
  FROM generate_series(1, 6 * :patients) g;

CREATE TABLE clinic.notes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, appointment_id bigint NOT NULL,
    patient_id int NOT NULL, author text NOT NULL, body text NOT NULL, findings jsonb,
    written_at timestamptz NOT NULL);
-- Every twentieth is a long letter, which the server stores out of line.
INSERT INTO clinic.notes (appointment_id, patient_id, author, body, findings, written_at)
SELECT 1 + trunc(random() * 6 * :patients)::bigint, 1 + trunc(random() * :patients)::int,
       'dr' || g % 23, clinic.prose(CASE WHEN g % 20 = 0 THEN 500 ELSE 40 + g % 80 END),
       jsonb_build_object('site', clinic.prose(2), 'size_mm', round((random() * 40)::numeric, 1),
           'photo', md5(g::text), 'tags', string_to_array(clinic.prose(3), ' ')),
       TIMESTAMPTZ '2018-01-01 00:00+00' + g * INTERVAL '5 minutes' + random() * INTERVAL '4 minutes'
  FROM generate_series(1, 4 * :patients) g;

DROP FUNCTION clinic.prose(int), clinic.words();
CREATE INDEX ON clinic.patients (name);
CREATE INDEX ON clinic.patients USING gin (history jsonb_path_ops);
CREATE INDEX ON clinic.appointments (patient_id, at);
CREATE INDEX ON clinic.appointments (status, at);
CREATE INDEX ON clinic.notes (appointment_id);
CREATE INDEX ON clinic.notes (patient_id, written_at);
ALTER TABLE clinic.appointments ADD FOREIGN KEY (patient_id) REFERENCES clinic.patients;
ALTER TABLE clinic.notes ADD FOREIGN KEY (patient_id) REFERENCES clinic.patients;
ALTER TABLE clinic.notes ADD FOREIGN KEY (appointment_id) REFERENCES clinic.appointments;
VACUUM ANALYZE clinic.patients, clinic.appointments, clinic.notes;
