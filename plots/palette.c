/* palette.c - colours of pictures and of lines.
 *
 * Viridis (N. Smith, S. van der Walt, E. Firing) and magma (N. Smith, S. van
 * der Walt) are CC0: https://bids.github.io/colormap.  The diverging table is
 * computed here in CIELAB.
 */
#include "palette.h"

#include <math.h>
#include <stddef.h>

/* RRGGBB of 256 entries. */
static const char viridis[] =
    "44015444025645045745055946075a46085c460a5d460b5e470d60470e61471063471164"
    "47136548146748166848176948186a481a6c481b6d481c6e481d6f481f70482071482173"
    "482374482475482576482677482878482979472a7a472c7a472d7b472e7c472f7d46307e"
    "46327e46337f463480453581453781453882443983443a83443b84433d84433e85423f85"
    "4240864241864142874144874045884046883f47883f48893e49893e4a893e4c8a3d4d8a"
    "3d4e8a3c4f8a3c508b3b518b3b528b3a538b3a548c39558c39568c38588c38598c375a8c"
    "375b8d365c8d365d8d355e8d355f8d34608d34618d33628d33638d32648e32658e31668e"
    "31678e31688e30698e306a8e2f6b8e2f6c8e2e6d8e2e6e8e2e6f8e2d708e2d718e2c718e"
    "2c728e2c738e2b748e2b758e2a768e2a778e2a788e29798e297a8e297b8e287c8e287d8e"
    "277e8e277f8e27808e26818e26828e26828e25838e25848e25858e24868e24878e23888e"
    "23898e238a8d228b8d228c8d228d8d218e8d218f8d21908d21918c20928c20928c20938c"
    "1f948c1f958b1f968b1f978b1f988b1f998a1f9a8a1e9b8a1e9c891e9d891f9e891f9f88"
    "1fa0881fa1881fa1871fa28720a38620a48621a58521a68522a78522a88423a98324aa83"
    "25ab8225ac8226ad8127ad8128ae8029af7f2ab07f2cb17e2db27d2eb37c2fb47c31b57b"
    "32b67a34b67935b77937b87838b9773aba763bbb753dbc743fbc7340bd7242be7144bf70"
    "46c06f48c16e4ac16d4cc26c4ec36b50c46a52c56954c56856c66758c7655ac8645cc863"
    "5ec96260ca6063cb5f65cb5e67cc5c69cd5b6ccd5a6ece5870cf5773d05675d05477d153"
    "7ad1517cd2507fd34e81d34d84d44b86d54989d5488bd6468ed64590d74393d74195d840"
    "98d83e9bd93c9dd93ba0da39a2da37a5db36a8db34aadc32addc30b0dd2fb2dd2db5de2b"
    "b8de29bade28bddf26c0df25c2df23c5e021c8e020cae11fcde11dd0e11cd2e21bd5e21a"
    "d8e219dae319dde318dfe318e2e418e5e419e7e419eae51aece51befe51cf1e51df4e61e"
    "f6e620f8e621fbe723fde725";

static const char magma[] =
    "00000401000501010601010802010902020b02020d03030f030312040414050416060518"
    "06051a07061c08071e0907200a08220b09240c09260d0a290e0b2b100b2d110c2f120d31"
    "130d34140e36150e38160f3b180f3d19103f1a10421c10441d11471e114920114b21114e"
    "22115024125325125527125829115a2a115c2c115f2d11612f1163311165331067341069"
    "36106b38106c390f6e3b0f703d0f713f0f72400f74420f75440f76451077471078491078"
    "4a10794c117a4e117b4f127b51127c52137c54137d56147d57157e59157e5a167e5c167f"
    "5d177f5f187f601880621980641a80651a80671b80681c816a1c816b1d816d1d816e1e81"
    "701f81721f817320817521817621817822817922827b23827c23827e2482802582812581"
    "8326818426818627818827818928818b29818c29818e2a81902a81912b81932b80942c80"
    "962c80982d80992d809b2e7f9c2e7f9e2f7fa02f7fa1307ea3307ea5317ea6317da8327d"
    "aa337dab337cad347cae347bb0357bb2357bb3367ab5367ab73779b83779ba3878bc3978"
    "bd3977bf3a77c03a76c23b75c43c75c53c74c73d73c83e73ca3e72cc3f71cd4071cf4070"
    "d0416fd2426fd3436ed5446dd6456cd8456cd9466bdb476adc4869de4968df4a68e04c67"
    "e24d66e34e65e44f64e55064e75263e85362e95462ea5661eb5760ec5860ed5a5fee5b5e"
    "ef5d5ef05f5ef1605df2625df2645cf3655cf4675cf4695cf56b5cf66c5cf66e5cf7705c"
    "f7725cf8745cf8765cf9785df9795df97b5dfa7d5efa7f5efa815ffb835ffb8560fb8761"
    "fc8961fc8a62fc8c63fc8e64fc9065fd9266fd9467fd9668fd9869fd9a6afd9b6bfe9d6c"
    "fe9f6dfea16efea36ffea571fea772fea973feaa74feac76feae77feb078feb27afeb47b"
    "feb67cfeb77efeb97ffebb81febd82febf84fec185fec287fec488fec68afec88cfeca8d"
    "fecc8ffecd90fecf92fed194fed395fed597fed799fed89afdda9cfddc9efddea0fde0a1"
    "fde2a3fde3a5fde5a7fde7a9fde9aafdebacfcecaefceeb0fcf0b2fcf2b4fcf4b6fcf6b8"
    "fcf7b9fcf9bbfcfbbdfcfdbf";

const uint32_t series_colors[SERIES_COLORS] = {
    0x0072b2, 0xd55e00, 0x009e73, 0xcc79a7, 0x000000, 0xe69f00, 0x56b4e9,
};

static unsigned digit(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
}

static void from_hex(const char *hex, uint8_t out[256][3])
{
    for (size_t i = 0; i < 256 * 3; i++)
        out[i / 3][i % 3] =
            (uint8_t)(digit(hex[2 * i]) << 4 | digit(hex[2 * i + 1]));
}

/* ---- diverging ----------------------------------------------------------- */

static double from_lab_curve(double t)
{
    const double knee = 6.0 / 29;
    return t > knee ? t * t * t : 3 * knee * knee * (t - 4.0 / 29);
}

static uint8_t srgb_byte(double linear)
{
    const double v = linear <= 0.0031308
                         ? 12.92 * linear
                         : 1.055 * pow(linear, 1 / 2.4) - 0.055;
    return (uint8_t)(255 * fmin(fmax(v, 0), 1) + 0.5);
}

/* CIELAB (D65) -> XYZ -> linear sRGB -> sRGB bytes, IEC 61966-2-1. */
static void lab_to_srgb(double L, double a, double b, uint8_t rgb[3])
{
    const double fy = (L + 16) / 116;
    const double X = 0.95047 * from_lab_curve(fy + a / 500);
    const double Y = from_lab_curve(fy);
    const double Z = 1.08883 * from_lab_curve(fy - b / 200);
    rgb[0] = srgb_byte(3.2404542 * X - 1.5371385 * Y - 0.4985314 * Z);
    rgb[1] = srgb_byte(-0.9692660 * X + 1.8760108 * Y + 0.0415560 * Z);
    rgb[2] = srgb_byte(0.0556434 * X - 0.2040259 * Y + 1.0572252 * Z);
}

/* Blue to red through near-white.  Lightness falls linearly and equally on both
 * sides, so equal magnitudes look equally strong and survive in grey; chroma
 * 118 t - 72 t^2 stays inside sRGB for both hues. */
static void diverging(uint8_t out[256][3])
{
    const double blue = 285 * 3.14159265358979 / 180;
    const double red = 30 * 3.14159265358979 / 180;
    for (int i = 0; i < 256; i++) {
        const double x = i == 0 ? -1 : (i - 128) / 127.0, t = fabs(x);
        const double hue = x < 0 ? blue : red, chroma = (118 - 72 * t) * t;
        lab_to_srgb(97 - 62 * t, chroma * cos(hue), chroma * sin(hue), out[i]);
    }
}

void palette_fill(enum palette which, uint8_t out[256][3])
{
    switch (which) {
    case PALETTE_VIRIDIS: from_hex(viridis, out); break;
    case PALETTE_MAGMA: from_hex(magma, out); break;
    case PALETTE_DIVERGING: diverging(out); break;
    case PALETTE_GREY:
        for (int i = 0; i < 256; i++)
            out[i][0] = out[i][1] = out[i][2] = (uint8_t)i;
        break;
    }
}

uint8_t palette_index(double value, double lo, double hi)
{
    const double t = hi > lo ? (value - lo) / (hi - lo) : 0;
    return t > 0 ? (uint8_t)(255 * fmin(t, 1) + 0.5) : 0;
}

uint8_t palette_signed_index(double value, double max)
{
    if (isnan(value)) return 0;
    const double t = max > 0 ? fmin(fmax(value / max, -1), 1) : 0;
    return (uint8_t)(128 + lround(127 * t));
}
