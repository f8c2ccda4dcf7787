reset
set encoding utf8
if (!exists("suffix")) suffix = ''
if (!exists("formats")) formats = 'svg png pdf'
do for [format in formats] {
if (format eq 'svg') { set terminal svg size 653,359 font 'sans-serif,8' fontscale 1.33333 linewidth 1.33333 background '#ffffff'; symbol = 1.5 }
if (format eq 'png') { set terminal pngcairo size 1361,747 font 'sans-serif,8' fontscale 2.08333 linewidth 2.77778 pointscale 2.77778; symbol = 1 }
if (format eq 'pdf') { set terminal pdfcairo size 6.8056in,3.7361in font 'sans-serif,8' fontscale 0.75 linewidth 2; symbol = 1 }
set output 'headdim-time'.'.'.format.suffix
set multiplot
set border 3 linewidth 0.7 linecolor rgb '#444444'
set tics out nomirror scale 0.5,0.25 font ',7'
set grid ytics linetype 1 linecolor rgb '#dddddd' linewidth 0.5
set logscale x 2
set logscale y 10
unset key
unset label
unset arrow
set lmargin at screen 0.09796
set rmargin at screen 0.86833
set bmargin at screen 0.11152
set tmargin at screen 0.98513
set xrange [7.674113:66.717809]
set yrange [3.7170301e-07:1.0559236e-05]
set xtics ('8' 8,'16' 16,'64' 64)
set ytics ('' 4e-7 1,'500 ns' 5e-7,'' 6e-7 1,'' 7e-7 1,'' 8e-7 1,'' 9e-7 1,'1 µs' 1e-6,'2 µs' 2e-6,'' 3e-6 1,'' 4e-6 1,'5 µs' 5e-6,'' 6e-6 1,'' 7e-6 1,'' 8e-6 1,'' 9e-6 1,'10 µs' 1e-5)
set label 'channels per head d' at screen 0.48314,0.03532 center font ',8' textcolor rgb '#000000'
set label 'linear.fused' at screen 0.36989,0.34236 left font ',7' textcolor rgb '#d55e00'
set label 'softmax.flash' at screen 0.88669,0.91268 left font ',7' textcolor rgb '#0072b2'
set arrow from screen 0.55238,0.22008 to screen 0.79929,0.40102 nohead back linecolor rgb '#888888' linewidth 0.7
set label 'd' at screen 0.80338,0.40102 left font ',6.5' textcolor rgb '#666666'
set arrow from screen 0.55238,0.22008 to screen 0.79929,0.58195 nohead back linecolor rgb '#888888' linewidth 0.7
set label 'd²' at screen 0.80338,0.58195 left font ',6.5' textcolor rgb '#666666'
set label 'time per call (median and 95 % interval)' at screen 0.01429,0.55576 center rotate font ',8' textcolor rgb '#000000'
plot 'headdim-time'.'.tsv' index 0 using 1:3:4 notitle with filledcurves fillcolor rgb '#0072b2' fillstyle transparent solid 0.15 noborder, \
     '' index 1 using 1:3:4 notitle with filledcurves fillcolor rgb '#d55e00' fillstyle transparent solid 0.15 noborder, \
     '' index 0 using 1:2 notitle with lines linecolor rgb '#0072b2' linewidth 1.1 dashtype solid, \
     '' index 0 using 1:($5==0?$2:NaN) notitle with points pointtype 7 pointsize 0.42*symbol linecolor rgb '#0072b2', \
     '' index 1 using 1:2 notitle with lines linecolor rgb '#d55e00' linewidth 1.1 dashtype (14,4), \
     '' index 1 using 1:($5==0?$2:NaN) notitle with points pointtype 5 pointsize 0.42*symbol linecolor rgb '#d55e00'
unset multiplot
unset output
}
