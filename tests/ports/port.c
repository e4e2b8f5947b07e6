/* A port of all cells to C99, written against docs/port/vectors.md: no library but the standard one.

   port FOLDER/CASE > CASE.csv     reads CASE.txt and CASE.bin, as `numpy-rnn vectors write FOLDER --format bin` has
                                   written them, and prints every number as a line name,index,value

   Then: numpy-rnn vectors check CASE.csv */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME = 64, TENSORS = 512 };

typedef struct {
    char name[NAME];
    int size;
    double *data;
} Tensor;

static Tensor given[TENSORS], made[TENSORS];
static int given_count, made_count;
static int T, B, I, H, R, L, D, G;
static int *lengths;
static char cell[NAME];

static void *allocated(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) { fprintf(stderr, "port: no memory\n"); exit(1); }
    return memory;
}

static void failed(const char *what) {
    fprintf(stderr, "port: %s\n", what);
    exit(1);
}

/* ---- the case */

static void read_case(const char *stem) {
    char path[4096], role[NAME];
    int count;
    snprintf(path, sizeof path, "%s.txt", stem);
    FILE *index = fopen(path, "r");
    snprintf(path, sizeof path, "%s.bin", stem);
    FILE *data = fopen(path, "rb");
    if (!index || !data) failed("cannot open the case");
    if (fscanf(index, "case %*s %63s sizes %d %d %d %d %d %d %d lengths", cell, &T, &B, &I, &H, &R, &L, &D) != 8)
        failed("no case");
    lengths = allocated((size_t)B, sizeof *lengths);
    for (int b = 0; b < B; ++b) if (fscanf(index, "%d", &lengths[b]) != 1) failed("no lengths");
    if (fscanf(index, " tensors %d", &count) != 1) failed("no tensors");
    for (int k = 0; k < count; ++k) {
        Tensor *t = &given[given_count++];
        long offset;
        int dimensions, n;
        if (fscanf(index, "%63s %63s %ld %d", t->name, role, &offset, &dimensions) != 4) failed("a line of the index");
        t->size = 1;
        for (int i = 0; i < dimensions; ++i) {
            if (fscanf(index, "%d", &n) != 1) failed("a dimension");
            t->size *= n;
        }
        t->data = allocated((size_t)t->size, sizeof(double));
        fseek(data, offset, SEEK_SET);
        if (fread(t->data, sizeof(double), (size_t)t->size, data) != (size_t)t->size) failed("the numbers");
    }
    fclose(index);
    fclose(data);
}

static const char *named(const char *name, int l, int d) {
    static char whole[NAME];
    if (L == 1 && D == 1) snprintf(whole, sizeof whole, "%s", name);
    else snprintf(whole, sizeof whole, "%s_l%d%s", name, l, d ? "_reverse" : "");
    return whole;
}

static double *input(const char *name) {
    for (int k = 0; k < given_count; ++k) if (!strcmp(given[k].name, name)) return given[k].data;
    return NULL;
}

/* The port's own tensor of that name, zero at first. */
static double *output(const char *name, int size) {
    for (int k = 0; k < made_count; ++k) if (!strcmp(made[k].name, name)) return made[k].data;
    Tensor *t = &made[made_count++];
    snprintf(t->name, sizeof t->name, "%s", name);
    t->size = size;
    t->data = allocated((size_t)size, sizeof(double));
    return t->data;
}

/* Row (t, b) of a tensor of steps. */
static double *row(const char *name, int l, int d, int t, int b, int units) {
    return output(named(name, l, d), T * B * units) + (t * B + b) * units;
}

/* ---- linear algebra */

static void add_product(double *y, const double *W, const double *x, int rows, int columns) {
    for (int i = 0; i < rows; ++i) for (int j = 0; j < columns; ++j) y[i] += W[i * columns + j] * x[j];
}

static void add_transposed(double *x, const double *W, const double *y, int rows, int columns) {
    for (int i = 0; i < rows; ++i) for (int j = 0; j < columns; ++j) x[j] += W[i * columns + j] * y[i];
}

static void add_outer(double *dW, const double *y, const double *x, int rows, int columns) {
    for (int i = 0; i < rows; ++i) for (int j = 0; j < columns; ++j) dW[i * columns + j] += y[i] * x[j];
}

static void add(double *y, const double *x, int n) {
    for (int k = 0; k < n; ++k) y[k] += x[k];
}

static double sigmoid(double a) { return a >= 0 ? 1 / (1 + exp(-a)) : exp(a) / (1 + exp(a)); }

/* ---- one step of one sequence */

typedef struct {
    double *W_ih, *W_hh, *b_ih, *b_hh, *W_hr, *P;
    int inputs;
} Params;

static int is(const char *name) { return !strcmp(cell, name); }

/* From x and the state h, c before step t to those after it, h_next, c_next. */
static void forward(Params p, int l, int d, int t, int b, const double *x, const double *h, const double *c,
                    double *h_next, double *c_next) {
    double *u = allocated((size_t)(G * H), sizeof *u), *v = allocated((size_t)(G * H), sizeof *v);
    add(u, p.b_ih, G * H);
    add_product(u, p.W_ih, x, G * H, p.inputs);
    if (is("gru_reset_before")) {
        add(v, p.b_hh, G * H);
        add_product(v, p.W_hh, h, 2 * H, R);
    } else {
        add(v, p.b_hh, G * H);
        add_product(v, p.W_hh, h, G * H, R);
    }
#define ROW(name) (row(#name, l, d, t, b, H))
    if (G == 1) {
        double *a = ROW(a);
        for (int k = 0; k < H; ++k) {
            a[k] = u[k] + v[k];
            h_next[k] = is("rnn_tanh") ? tanh(a[k]) : a[k] > 0 ? a[k] : 0;
        }
    } else if (G == 4) {
        double *a_i = ROW(a_i), *a_f = ROW(a_f), *a_g = ROW(a_g), *a_o = ROW(a_o);
        double *i = ROW(i), *f = ROW(f), *g = ROW(g), *o = ROW(o), *tanh_c = ROW(tanh_c);
        double *m = is("lstm_projection") ? ROW(m) : h_next;
        for (int k = 0; k < H; ++k) {
            double P_i = p.P ? p.P[k] : 0, P_f = p.P ? p.P[H + k] : 0, P_o = p.P ? p.P[2 * H + k] : 0;
            a_i[k] = u[k] + v[k];
            a_f[k] = u[H + k] + v[H + k];
            a_g[k] = u[2 * H + k] + v[2 * H + k];
            a_o[k] = u[3 * H + k] + v[3 * H + k];
            i[k] = sigmoid(a_i[k] + P_i * c[k]);
            f[k] = sigmoid(a_f[k] + P_f * c[k]);
            g[k] = tanh(a_g[k]);
            c_next[k] = f[k] * c[k] + i[k] * g[k];
            o[k] = sigmoid(a_o[k] + P_o * c_next[k]);
            tanh_c[k] = tanh(c_next[k]);
            m[k] = o[k] * tanh_c[k];
        }
        if (is("lstm_projection")) {
            memset(h_next, 0, (size_t)R * sizeof *h_next);
            add_product(h_next, p.W_hr, m, R, H);
        }
    } else {
        double *u_r = ROW(u_r), *u_z = ROW(u_z), *u_n = ROW(u_n), *r = ROW(r), *z = ROW(z), *n = ROW(n);
        double *rh = allocated((size_t)H, sizeof *rh);
        for (int k = 0; k < H; ++k) {
            u_r[k] = u[k];
            u_z[k] = u[H + k];
            u_n[k] = u[2 * H + k];
            r[k] = sigmoid(u[k] + v[k]);
            z[k] = sigmoid(u[H + k] + v[H + k]);
            rh[k] = r[k] * h[k];
        }
        if (is("gru_reset_before")) add_product(v + 2 * H, p.W_hh + 2 * H * H, rh, H, H);
        else for (int k = 0; k < H; ++k) {
            ROW(v_r)[k] = v[k];
            ROW(v_z)[k] = v[H + k];
        }
        for (int k = 0; k < H; ++k) {
            ROW(v_n)[k] = v[2 * H + k];
            n[k] = tanh(u[2 * H + k] + (is("gru") ? r[k] : 1) * v[2 * H + k]);
            h_next[k] = (1 - z[k]) * n[k] + z[k] * h[k];
        }
        free(rh);
    }
    free(u);
    free(v);
}

/* From dh, dc after step t, whole, to what the state before it gets, dh_before, dc_before; adds to the rest. */
static void backward(Params p, Params dp, int l, int d, int t, int b, const double *x, const double *h,
                     const double *c, const double *dh, const double *dc_given, double *dx, double *dh_before,
                     double *dc_before) {
    double *du = allocated((size_t)(G * H), sizeof *du), *dv = allocated((size_t)(G * H), sizeof *dv);
    if (G == 1) {
        double *da = ROW(da), *h_next = row("h", l, d, t, b, R);
        for (int k = 0; k < H; ++k)
            du[k] = dv[k] = da[k] = dh[k] * (is("rnn_tanh") ? 1 - h_next[k] * h_next[k] : h_next[k] > 0);
    } else if (G == 4) {
        double *i = ROW(i), *f = ROW(f), *g = ROW(g), *o = ROW(o), *tanh_c = ROW(tanh_c), *c_next = ROW(c);
        double *dc = ROW(dc), *do_ = ROW(do), *di = ROW(di), *df = ROW(df), *dg = ROW(dg);
        double *da_i = ROW(da_i), *da_f = ROW(da_f), *da_g = ROW(da_g), *da_o = ROW(da_o);
        const double *dm = dh;
        if (is("lstm_projection")) {
            double *whole = ROW(dm);
            add_transposed(whole, p.W_hr, dh, R, H);
            add_outer(dp.W_hr, dh, ROW(m), R, H);
            dm = whole;
        }
        for (int k = 0; k < H; ++k) {
            double P_i = p.P ? p.P[k] : 0, P_f = p.P ? p.P[H + k] : 0, P_o = p.P ? p.P[2 * H + k] : 0;
            do_[k] = dm[k] * tanh_c[k];
            da_o[k] = do_[k] * o[k] * (1 - o[k]);
            dc[k] = dc_given[k] + dm[k] * o[k] * (1 - tanh_c[k] * tanh_c[k]) + da_o[k] * P_o;
            di[k] = dc[k] * g[k];
            df[k] = dc[k] * c[k];
            dg[k] = dc[k] * i[k];
            da_i[k] = di[k] * i[k] * (1 - i[k]);
            da_f[k] = df[k] * f[k] * (1 - f[k]);
            da_g[k] = dg[k] * (1 - g[k] * g[k]);
            dc_before[k] = dc[k] * f[k] + da_i[k] * P_i + da_f[k] * P_f;
            du[k] = da_i[k];
            du[H + k] = da_f[k];
            du[2 * H + k] = da_g[k];
            du[3 * H + k] = da_o[k];
            if (p.P) {
                dp.P[k] += da_i[k] * c[k];
                dp.P[H + k] += da_f[k] * c[k];
                dp.P[2 * H + k] += da_o[k] * c_next[k];
            }
        }
        memcpy(dv, du, (size_t)(G * H) * sizeof *dv);
    } else {
        double *r = ROW(r), *z = ROW(z), *n = ROW(n), *dn = ROW(dn), *dz = ROW(dz), *du_n = ROW(du_n);
        double *dr = ROW(dr), *du_r = ROW(du_r), *du_z = ROW(du_z);
        int before = is("gru_reset_before");
        double *dq = before ? ROW(dq) : NULL;
        for (int k = 0; k < H; ++k) {
            dn[k] = dh[k] * (1 - z[k]);
            dz[k] = dh[k] * (h[k] - n[k]);
            dh_before[k] += dh[k] * z[k];
            du_n[k] = dn[k] * (1 - n[k] * n[k]);
        }
        if (before) add_transposed(dq, p.W_hh + 2 * H * H, du_n, H, H);
        for (int k = 0; k < H; ++k) {
            dr[k] = before ? dq[k] * h[k] : du_n[k] * ROW(v_n)[k];
            du[k] = dv[k] = du_r[k] = dr[k] * r[k] * (1 - r[k]);
            du[H + k] = dv[H + k] = du_z[k] = dz[k] * z[k] * (1 - z[k]);
            du[2 * H + k] = dv[2 * H + k] = du_n[k];
            if (before) dh_before[k] += dq[k] * r[k];
            else dv[2 * H + k] = ROW(dv_n)[k] = du_n[k] * r[k];
        }
        if (before) {
            double *rh = allocated((size_t)H, sizeof *rh);
            for (int k = 0; k < H; ++k) rh[k] = r[k] * h[k];
            add_outer(dp.W_hh + 2 * H * H, du_n, rh, H, H);
            free(rh);
        }
    }
    int rows = is("gru_reset_before") ? 2 * H : G * H; /* of W_hh, those that multiply h itself */
    add_transposed(dh_before, p.W_hh, dv, rows, R);
    add_outer(dp.W_hh, dv, h, rows, R);
    add_transposed(dx, p.W_ih, du, G * H, p.inputs);
    add_outer(dp.W_ih, du, x, G * H, p.inputs);
    add(dp.b_ih, du, G * H);
    add(dp.b_hh, dv, G * H);
    free(du);
    free(dv);
}

/* ---- layers, directions, sequences */

static const char *FIELDS[] = {"W_ih", "W_hh", "b_ih", "b_hh", "W_hr", "P"};

static void sizes_of(int inputs, int sizes[6]) {
    sizes[0] = G * H * inputs;
    sizes[1] = G * H * R;
    sizes[2] = sizes[3] = G * H;
    sizes[4] = is("lstm_projection") ? R * H : 0;
    sizes[5] = is("lstm_peephole") ? 3 * H : 0;
}

static Params params_of(int l, int d, int inputs) {
    double *found[6];
    for (int k = 0; k < 6; ++k) found[k] = input(named(FIELDS[k], l, d));
    return (Params){found[0], found[1], found[2], found[3], found[4], found[5], inputs};
}

static Params zero_gradients(int inputs) {
    double *found[6];
    int sizes[6];
    sizes_of(inputs, sizes);
    for (int k = 0; k < 6; ++k) found[k] = sizes[k] ? allocated((size_t)sizes[k], sizeof(double)) : NULL;
    return (Params){found[0], found[1], found[2], found[3], found[4], found[5], inputs};
}

/* Adds a step's part of the gradients to the whole, and to the running sums of this step and all before it. */
static void add_gradients(int l, int d, int inputs, Params step, int t) {
    double *parts[6] = {step.W_ih, step.W_hh, step.b_ih, step.b_hh, step.W_hr, step.P};
    int sizes[6];
    sizes_of(inputs, sizes);
    for (int k = 0; k < 6; ++k) {
        if (!sizes[k]) continue;
        char name[NAME];
        snprintf(name, sizeof name, "d%s", FIELDS[k]);
        add(output(named(name, l, d), sizes[k]), parts[k], sizes[k]);
        if (L > 1 || D > 1) continue;
        snprintf(name, sizeof name, "d%s_running", FIELDS[k]);
        double *running = output(name, T * sizes[k]);
        for (int s = 0; s <= t; ++s) add(running + s * sizes[k], parts[k], sizes[k]);
    }
}

/* ---- optimizers */

static void optimize(void) {
    double *g = input("g"), *p_0 = input("p_0");
    int n = 0;
    for (int k = 0; k < given_count; ++k) if (!strcmp(given[k].name, "p_0")) n = given[k].size;
    for (int t = 0; t < T; ++t) {
        const double *g_t = g + t * n;
#define STEP(name) (output(#name, T * n) + t * n)
#define BEFORE(name) (output(#name, T * n) + (t - 1) * n)
        if (is("sgd")) for (int k = 0; k < n; ++k) {
            double p = t ? BEFORE(p)[k] : p_0[k];
            STEP(d)[k] = g_t[k] + *input("weight_decay") * p;
            STEP(b)[k] = t ? *input("momentum") * BEFORE(b)[k] + STEP(d)[k] : STEP(d)[k];
            STEP(p)[k] = p - *input("lr") * STEP(b)[k];
        } else if (is("adam")) for (int k = 0; k < n; ++k) {
            double p = t ? BEFORE(p)[k] : p_0[k], beta1 = *input("beta1"), beta2 = *input("beta2");
            STEP(m)[k] = beta1 * (t ? BEFORE(m)[k] : 0) + (1 - beta1) * g_t[k];
            STEP(v)[k] = beta2 * (t ? BEFORE(v)[k] : 0) + (1 - beta2) * g_t[k] * g_t[k];
            STEP(m_hat)[k] = STEP(m)[k] / (1 - pow(beta1, t + 1));
            STEP(v_hat)[k] = STEP(v)[k] / (1 - pow(beta2, t + 1));
            STEP(p)[k] = p - *input("lr") * STEP(m_hat)[k] / (sqrt(STEP(v_hat)[k]) + *input("eps"));
        } else {
            double sum = 0;
            for (int k = 0; k < n; ++k) sum += g_t[k] * g_t[k];
            double norm = output("norm", T)[t] = sqrt(sum), factor = *input("max_norm") / (norm + 1e-6);
            double scale = output("scale", T)[t] = factor < 1 ? factor : 1;
            for (int k = 0; k < n; ++k) STEP(clipped)[k] = scale * g_t[k];
        }
    }
}

static void print_all(void) {
    for (int k = 0; k < made_count; ++k)
        for (int i = 0; i < made[k].size; ++i) printf("%s,%d,%.17g\n", made[k].name, i, made[k].data[i]);
}

int main(int count, char **arguments) {
    if (count != 2) failed("expected a case, such as folder/lstm-plain");
    read_case(arguments[1]);
    if (is("sgd") || is("adam") || is("clip")) {
        optimize();
        print_all();
        return 0;
    }
    G = strncmp(cell, "lstm", 4) == 0 ? 4 : strncmp(cell, "gru", 3) == 0 ? 3 : 1;
    int single = L == 1 && D == 1, has_c = G == 4;
    double *h_0 = input("h_0"), *c_0 = input("c_0"), *dh_n = input("dh_n"), *dc_n = input("dc_n");
    double *h_n = output("h_n", L * D * B * R), *c_n = has_c ? output("c_n", L * D * B * H) : NULL;
    double **xs = allocated((size_t)L, sizeof *xs);
    double *nothing = allocated((size_t)H, sizeof *nothing), *spare = allocated((size_t)H, sizeof *spare);
    int width = D * R;

    for (int l = 0; l < L; ++l) {
        int inputs = l ? width : I;
        xs[l] = allocated((size_t)(T * B * inputs), sizeof(double));
        for (int k = 0; k < T * B * inputs; ++k) {
            if (l == 0) xs[l][k] = input("x")[k];
            else {
                char name[NAME];
                snprintf(name, sizeof name, "mask_l%d", l - 1);
                int t_b = k / width, d = k % width / R, unit = k % R;
                xs[l][k] = row("h", l - 1, d, t_b / B, t_b % B, R)[unit] * input(name)[k];
            }
        }
        for (int d = 0; d < D; ++d) for (int b = 0; b < B; ++b) {
            int place = (l * D + d) * B + b, n = lengths[b];
            const double *h = h_0 + place * R, *c = has_c ? c_0 + place * H : nothing;
            row("h", l, d, 0, 0, R);
            for (int q = 0; q < n; ++q) {
                int t = d ? n - 1 - q : q;
                double *h_next = row("h", l, d, t, b, R), *c_next = has_c ? row("c", l, d, t, b, H) : spare;
                forward(params_of(l, d, inputs), l, d, t, b, xs[l] + (t * B + b) * inputs, h, c, h_next, c_next);
                h = h_next;
                c = c_next;
            }
            memcpy(h_n + place * R, h, (size_t)R * sizeof *h);
            if (has_c) memcpy(c_n + place * H, c, (size_t)H * sizeof *c);
        }
    }
    double *y = output("output", T * B * width);
    for (int k = 0; k < T * B * width; ++k) y[k] = row("h", L - 1, k % width / R, k / width / B, k / width % B, R)[k % R];

    double *dy = allocated((size_t)(T * B * width), sizeof *dy);
    memcpy(dy, input("doutput"), (size_t)(T * B * width) * sizeof *dy);
    double *dh_0 = output("dh_0", L * D * B * R), *dc_0 = has_c ? output("dc_0", L * D * B * H) : NULL;
    for (int l = L - 1; l >= 0; --l) {
        int inputs = l ? width : I;
        double *dx = l ? allocated((size_t)(T * B * inputs), sizeof *dx) : output("dx", T * B * I);
        for (int d = 0; d < D; ++d) {
            add_gradients(l, d, inputs, zero_gradients(inputs), -1); /* they are there, if there is no step */
            for (int b = 0; b < B; ++b) {
                int place = (l * D + d) * B + b, n = lengths[b];
                double *dh = allocated((size_t)R, sizeof *dh), *dc = allocated((size_t)H, sizeof *dc);
                memcpy(dh, dh_n + place * R, (size_t)R * sizeof *dh);
                if (has_c) memcpy(dc, dc_n + place * H, (size_t)H * sizeof *dc);
                for (int q = n - 1; q >= 0; --q) {
                    int t = d ? n - 1 - q : q, t_before = d ? t + 1 : t - 1;
                    const double *h = q ? row("h", l, d, t_before, b, R) : h_0 + place * R;
                    const double *c = !has_c ? nothing : q ? row("c", l, d, t_before, b, H) : c_0 + place * H;
                    add(dh, dy + (t * B + b) * width + d * R, R);
                    memcpy(row("dh", l, d, t, b, R), dh, (size_t)R * sizeof *dh);
                    double *dh_before = allocated((size_t)R, sizeof *dh), *dc_before = allocated((size_t)H, sizeof *dc);
                    double *own = allocated((size_t)inputs, sizeof *own);
                    Params dp = zero_gradients(inputs);
                    backward(params_of(l, d, inputs), dp, l, d, t, b, xs[l] + (t * B + b) * inputs, h, c, dh, dc, own,
                             dh_before, dc_before);
                    add_gradients(l, d, inputs, dp, t);
                    if (!single) memcpy(row("dx", l, d, t, b, inputs), own, (size_t)inputs * sizeof *own);
                    add(dx + (t * B + b) * inputs, own, inputs);
                    free(dh);
                    free(dc);
                    free(own);
                    dh = dh_before;
                    dc = dc_before;
                }
                memcpy(dh_0 + place * R, dh, (size_t)R * sizeof *dh);
                if (has_c) memcpy(dc_0 + place * H, dc, (size_t)H * sizeof *dc);
            }
        }
        if (l) {
            char name[NAME];
            snprintf(name, sizeof name, "mask_l%d", l - 1);
            for (int k = 0; k < T * B * width; ++k) dx[k] *= input(name)[k];
            dy = dx;
        }
    }
    print_all();
    return 0;
}
